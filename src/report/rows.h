// SPDX-License-Identifier: Apache-2.0
// A measured case as rows of Google Benchmark's JSON with this project's keys beside: one a phase, one a layer and
// phase. Every case gives rows, also one that did not run.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "measure/measure.h"
#include "measure/prediction.h"
#include "model/network.h"
#include "program/totals.h"

namespace triphase {

struct CaseId {
  std::string model;  // spec with the parameters that differ from their defaults
  std::string model_name;
  nlohmann::json model_parameters;
  int64_t batch = 1;
  std::string dtype = "f32";
  std::string optimizer = "sgd";
  std::string backend = "onednn";
  int threads = 1;
  double loss_scale = 1;

  // "OneNet/batch:64/dtype:f32/optimizer:sgd/backend:onednn", with "/loss_scale:1" where it is not the usual one.
  std::string name() const;
};

struct Repetition {
  int index = 0;
  int count = 1;
};

// What the times are set against; empty where the machine's ceilings are not known.
struct Expectation {
  std::vector<Demand> demands;  // of the measurement's groups
  Factors factors;
  double peak_flop_per_s = 0;  // what mfu divides by
  Speed speed;
};

std::vector<nlohmann::ordered_json> rows(const CaseId& id, const Repetition& repetition, const StepProgram& program,
                                         const Measurement& measurement, const Expectation& expectation = {});

}  // namespace triphase
