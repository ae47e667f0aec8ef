// SPDX-License-Identifier: Apache-2.0
// A network as JSON describes it: a DAG of layers, in an order that respects their inputs, not yet given a batch.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "layers/kinds.h"

namespace triphase {

// "DeeperConvNet:depth=10,share_weights=true": a file stem of the model folder, or a path, and parameters to set.
struct ModelSpec {
  std::string name;
  nlohmann::json parameters = nlohmann::json::object();  // name -> integer or boolean
};

ModelSpec parse_model_spec(const std::string& text);

struct Network {
  struct Layer {
    std::string name;
    std::string kind;
    std::string owner;                // the layer whose weights it uses; itself unless shared
    std::vector<std::string> inputs;  // names of layers, or "input"
    std::string path;                 // where the JSON has it
    Lower lower;
  };

  std::string name;
  nlohmann::json parameters;  // all of them, as set
  uint64_t fingerprint = 0;   // of the JSON and the parameters: another network of the same name has another
  std::string spec;           // the name and the parameters that differ from their defaults
  Shape input_shape;          // without the batch
  std::vector<Layer> layers;
  std::string loss_kind;
  Lower loss;
};

// Throws InputError with the JSON path, what was expected and what was found.
Network parse_network(const nlohmann::json& json, const nlohmann::json& parameters);

// Reads a model by spec: a path to a .json file, or a stem within `folder`, case-insensitive.
Network load_network(const ModelSpec& spec, const std::string& folder);

// Throws InputError where no step can have so many examples.
void require_batch(int64_t batch, const std::string& where);

// The step of one batch. Throws InputError where a layer does not fit its input or a size overflows.
StepProgram lower(const Network& network, int64_t batch, const Optimizer& optimizer);

}  // namespace triphase
