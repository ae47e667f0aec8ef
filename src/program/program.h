// SPDX-License-Identifier: Apache-2.0
// StepProgram: one training step as a list of primitive ops, each tagged with its layer and its phase. It is the
// logical truth about FLOP, bytes and values; how a backend runs it (fusion, layouts, buffers) is the backend's Plan.
//
// Every tensor is written once. A parameter's update writes a new tensor, `next` of the old one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/phase.h"
#include "core/precision.h"
#include "ops/cost.h"
#include "ops/ops.h"

namespace triphase {

using TensorId = int32_t;
inline constexpr TensorId kNoTensor = -1;

enum class Role {
  kInput,      // the batch's data, given
  kTarget,     // its labels, given
  kParameter,  // learnt; replaced by its update
  kCopy,       // a parameter as layers read it in a narrower type; replaced after its update
  kState,      // an optimizer's, beside a parameter; replaced by its update
  kStatistic,  // running, of batch normalisation
  kScalars,    // an optimizer's numbers of this step, given
  kValue,      // computed in the forward phase
  kGradient,   // computed in the backward phases
};

// How a tensor that outlives the step begins.
struct Init {
  enum class Kind { kConstant, kTruncatedNormal } kind = Kind::kConstant;
  double value = 0;  // the constant, or the standard deviation before truncation at 3 of it
};

struct Tensor {
  std::string name;  // unique: "fc1.weight", "fc1.weight.gradient", "relu1"
  TensorType type;
  Role role = Role::kValue;
  Init init;                    // of parameters, states and statistics
  int producer = -1;            // index of the op that writes it; -1 where it is given
  TensorId next = kNoTensor;    // what the step replaces it with
  TensorId master = kNoTensor;  // of a copy: the parameter that it is rounded from
  std::vector<int> readers;     // indices of the ops that read it, ascending
};

struct Op {
  OpKind kind;
  std::vector<TensorId> inputs;
  std::vector<TensorId> outputs;
  int layer = 0;
  Phase phase = Phase::kForward;
};

struct LayerInfo {
  std::string name;
  std::string kind;
  bool first = false;  // has parameters, and its input needs no gradient
};

struct StepProgram {
  int64_t batch = 0;
  std::vector<Tensor> tensors;
  std::vector<Op> ops;  // in an order that respects every dependency
  std::vector<LayerInfo> layers;
  TensorId input = kNoTensor;
  TensorId target = kNoTensor;  // absent for losses without labels
  TensorId scalars = kNoTensor;
  TensorId loss = kNoTensor;
  Optimizer optimizer;
  Precision precision = Precision::kF32;
  double loss_scale = 1;  // that gradients are computed with, as the ops that begin and use them say

  const Tensor& tensor(TensorId id) const { return tensors[static_cast<size_t>(id)]; }
  Tensor& tensor(TensorId id) { return tensors[static_cast<size_t>(id)]; }
  std::vector<TensorType> types(const std::vector<TensorId>& ids) const;

  // Adds a tensor that nothing writes or reads yet.
  TensorId add(std::string name, TensorType type, Role role, Init init = {});
  // Appends an op on tensors that there are: from now on it writes its outputs and is the last to read its inputs.
  void append(Op op);
};

// How a weight that sums over fan_in terms begins: a normal of standard deviation 1 / √fan_in, truncated.
Init weight_init(int64_t fan_in);

// Bytes of a tensor by its logical shape.
int64_t size_in_bytes(const TensorType& type);

Cost cost(const StepProgram& program, const Op& op);

// The tensor whose elements these are under another shape: through every Reshape up to what was computed or given.
TensorId storage_of(const StepProgram& program, TensorId id);

// The tensor whose `next` is this one, which the step replaces with it; kNoTensor if there is none.
TensorId previous_version(const StepProgram& program, TensorId id);

// Logical memory. Parameters are counted with their copies, a gradient by its own type. Activations are the tensors
// kept from the forward phase for a later one, each storage once.
struct Memory {
  int64_t parameters = 0;
  int64_t gradients = 0;
  int64_t optimizer_state = 0;
  int64_t activations = 0;
  int64_t statistics = 0;
  int64_t input = 0;
  int64_t total = 0;
};

Memory logical_memory(const StepProgram& program);
int64_t parameter_count(const StepProgram& program);

// Checks the rules: written once, written before read, updates last, no shape that does not fit, and every tensor knows
// who writes and who reads it. Throws std::logic_error; what a lowering produced must always pass.
void validate(const StepProgram& program);

}  // namespace triphase
