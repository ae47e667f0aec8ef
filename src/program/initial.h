// SPDX-License-Identifier: Apache-2.0
// What a step starts from: any element of any given tensor, by its name, the seed and its index alone, so that every
// backend, layout, thread count and program sees the same values.
#pragma once

#include "core/random.h"
#include "program/program.h"

namespace triphase {

// Draws a given tensor's elements: data seeded normal, parameters as their Init says, targets uniform over the classes.
class InitialValues {
 public:
  InitialValues(const StepProgram& program, TensorId id, uint64_t seed)
      : tensor_(program.tensor(id)), stream_(random_stream(tensor_.name, seed)) {
    if (tensor_.role == Role::kTarget) {
      for (const int reader : tensor_.readers) {
        const Op& op = program.ops[static_cast<size_t>(reader)];
        if (std::holds_alternative<SoftmaxCrossEntropy>(op.kind)) classes_ = program.tensor(op.inputs[0]).type.shape[1];
      }
    }
  }

  double operator()(int64_t index) const {
    const auto i = static_cast<uint64_t>(index);
    if (tensor_.role == Role::kInput) return random_normal(stream_, i);
    if (tensor_.role == Role::kTarget) return static_cast<double>(random_bits(stream_, i) % static_cast<uint64_t>(classes_));
    if (tensor_.init.kind == Init::Kind::kConstant) return tensor_.init.value;
    return random_truncated_normal(stream_, i) * tensor_.init.value;
  }

 private:
  const Tensor& tensor_;
  uint64_t stream_;
  int64_t classes_ = 1;
};

}  // namespace triphase
