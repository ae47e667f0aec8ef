// SPDX-License-Identifier: Apache-2.0
// Recomputes single elements of an op's outputs in float64 from what a plan holds in memory, so that a step too large
// for the whole reference can still be checked. Written apart from the reference: it gathers where that one scatters.
#pragma once

#include <map>
#include <span>
#include <vector>

#include "backends/backend.h"

namespace triphase {

// An element's value, and what bounds the error of computing it in single precision: the sum of the magnitudes of its
// terms, how many roundings enter, and how far others may have moved it that are coarser or not independent.
struct Element {
  double value = 0;
  double magnitude = 0;
  double roundings = 0;
  double coarse = 0;

  // The error that computing in single precision and keeping the result as `dtype` may make.
  //
  // The error that single precision may make with overwhelming probability: for n roundings that are independent and of
  // mean zero, |error| <= λ √n u Σ|terms| fails with probability below 2 exp(-λ²/2), here 3e-14 (Higham and Mary, A New
  // Approach to Probabilistic Rounding Error Analysis, 2019). The worst case n u Σ|terms| would hide gross errors at n
  // = 1e5.
  double bound(DType dtype) const;
};

class ElementEvaluator {
 public:
  ElementEvaluator(const StepProgram& program, const Plan& plan)
      : program_(program), plan_(plan), runs_next_(program.ops.size()) {}

  // These ops are to run next, together: what they write is not in memory yet.
  void before(std::span<const int> ops);

  // Element `index` (row-major) of output `output` of op number `op`, from the op's inputs as they are in memory now;
  // inputs that fusion keeps out of memory, and those that the ops to run next write, are recomputed in turn.
  Element evaluate(int op, size_t output, int64_t index);

  // How many elements evaluate() reads.
  int64_t work(int op, size_t output) const;

 private:
  struct Overloads;

  Element read(TensorId id, int64_t index);
  // Whether a tensor's elements have to be recomputed.
  bool is_absent(TensorId id) const;
  const Op& op_at(int op) const { return program_.ops[static_cast<size_t>(op)]; }
  const Shape& shape(TensorId id) const { return program_.tensor(id).type.shape; }

  // Sums over one channel of batch normalisation, kept because every element of the channel needs them.
  struct ChannelSums {
    double first = 0, second = 0, magnitude = 0, coarse = 0;
  };
  const ChannelSums& channel_sums(int op, int64_t channel);

  const StepProgram& program_;
  const Plan& plan_;
  std::vector<char> runs_next_;   // by op
  bool multiplies_next_ = false;  // whether a product is among them
  std::map<std::pair<int, int64_t>, ChannelSums> channel_sums_;
};

}  // namespace triphase
