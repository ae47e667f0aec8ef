// SPDX-License-Identifier: Apache-2.0
// The update of parameters, by the same optimizers as everywhere.
#pragma once

#include <cstdint>
#include <tuple>

#include "core/host_device.h"
#include "optimizers/optimizers.h"

namespace triphase::cuda::kernels {

// One step of an optimizer on several parameters at once, as if their elements lay in a row; T is what their gradients
// are kept in, which `unscale` takes the loss's scale from. Reads by value(), computes by put(): arithmetic in between
// would wait for each element's operands.
template <class Rule, class T>
struct Update {
  static constexpr int kMostParts = 32;
  struct Part {
    float* w;
    const T* gradient;
    float* states[kMostStates];
    T* copy;      // of w, as layers read it; null where they read w
    int64_t end;  // of its elements in the row
  };
  Rule rule;
  float unscale;
  const float* scalars;
  int count;
  Part parts[kMostParts];

  static constexpr int kScalars = static_cast<int>(std::tuple_size_v<decltype(Rule().scalars(1))>);
  template <class Index>
  struct Operands {
    int part;
    Index element;  // of the part
    float w, gradient;
    float states[kMostStates];
    float scalars[kScalars];
  };
  template <class Index>
  TRIPHASE_HOST_DEVICE Operands<Index> value(Index i) const {
    int p = 0;  // the first part that ends behind i, halving the range that it is in
    if (count > 1) {
      TRIPHASE_UNROLL
      for (int step = kMostParts / 2; step > 0; step /= 2) {
        if (p + step < count && i >= static_cast<Index>(parts[p + step - 1].end)) p += step;
      }
    }
    const Index begin = p == 0 ? 0 : static_cast<Index>(parts[p - 1].end);
    const Part& part = parts[p];
    const Index element = i - begin;
    Operands<Index> read{p, element, part.w[element], part.gradient[element], {}, {}};
    for (int s = 0; s < Rule::kStates; ++s) read.states[s] = part.states[s][element];
    for (int s = 0; s < kScalars; ++s) read.scalars[s] = scalars[s];
    return read;
  }
  template <class Index>
  TRIPHASE_HOST_DEVICE void put(Index, Operands<Index> read) const {
    rule.step(read.w, read.gradient * unscale, read.states, read.scalars);
    const Part& part = parts[read.part];
    part.w[read.element] = read.w;
    for (int s = 0; s < Rule::kStates; ++s) part.states[s][read.element] = read.states[s];
    if (part.copy != nullptr) part.copy[read.element] = read.w;
  }
};

}  // namespace triphase::cuda::kernels
