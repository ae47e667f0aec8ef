// SPDX-License-Identifier: Apache-2.0
// What a step starts from: any element of any given tensor, by its name, the seed and its index alone, so that every
// backend, layout, thread count and program sees the same values, rounded to the type that it keeps them in.
#pragma once

#include <optional>
#include <vector>

#include "core/random.h"
#include "program/program.h"

namespace triphase {

// Draws a given tensor's elements: data seeded normal, parameters as their Init says, targets uniform over the classes.
class InitialValues {
 public:
  InitialValues(const StepProgram& program, TensorId id, uint64_t seed)
      : tensor_(program.tensor(program.tensor(id).master == kNoTensor ? id : program.tensor(id).master)),
        stream_(random_stream(tensor_.name, seed)) {
    if (tensor_.role == Role::kTarget) {
      for (const int reader : tensor_.readers) {
        const Op& op = program.ops[static_cast<size_t>(reader)];
        if (op.inputs[0] != id) classes_ = program.tensor(op.inputs[0]).type.shape[1];  // a loss, or its backward
      }
    }
  }

  double operator()(int64_t index) const {
    const auto i = static_cast<uint64_t>(index);
    if (tensor_.role == Role::kInput) return random_normal(stream_, i);
    if (tensor_.role == Role::kTarget)
      return static_cast<double>(random_bits(stream_, i) % static_cast<uint64_t>(classes_));
    if (tensor_.init.kind == Init::Kind::kConstant) return tensor_.init.value;
    return static_cast<float>(random_truncated_normal(stream_, i) * tensor_.init.value);
  }

  // For tensors drawn from a truncated normal, a table that yields the same elements ten times as fast: element i is
  // values[random_level(stream, i)]. LinearNet has 617 million weights.
  struct Levels {
    uint64_t stream = 0;
    std::vector<float> values;
  };
  std::optional<Levels> levels() const {
    if (tensor_.role == Role::kInput || tensor_.role == Role::kTarget) return {};
    if (tensor_.init.kind != Init::Kind::kTruncatedNormal) return {};
    constexpr int64_t kWorthwhile = 1 << 16;
    if (element_count(tensor_.type.shape) < kWorthwhile) return {};
    Levels levels{stream_, {}};
    for (uint64_t i = 0; i < kTruncatedNormalLevels; ++i) {
      levels.values.push_back(static_cast<float>(truncated_normal_level(i) * tensor_.init.value));
    }
    return levels;
  }

 private:
  const Tensor& tensor_;
  uint64_t stream_;
  int64_t classes_ = 1;
};

}  // namespace triphase
