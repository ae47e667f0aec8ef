// SPDX-License-Identifier: Apache-2.0
// What memory can do at best, for the machine's ceilings.
#pragma once

#include <cstdint>
#include <type_traits>

#include "backends/cuda/kernels/pack.h"
#include "core/divisor.h"
#include "core/host_device.h"

namespace triphase::cuda::kernels {

using Quad = Pack<float, 4>;

// These go over `quads` quads as often as fills their number of elements or terms. Rounds may overlap, since no result
// matters.

// y = number
struct Fill {
  Quad* y;
  float number;
  Divisor quads;

  template <class Index>
  TRIPHASE_HOST_DEVICE Quad value(Index) const {
    return {{number, number, number, number}};
  }
  template <class Index>
  TRIPHASE_HOST_DEVICE void put(Index i, const Quad& value) const {
    y[i % quads] = value;
  }
};

// y = x
struct CopyQuads {
  const Quad* x;
  Quad* y;
  Divisor quads;

  template <class Index>
  TRIPHASE_HOST_DEVICE Quad value(Index i) const {
    return x[i % quads];
  }
  template <class Index>
  TRIPHASE_HOST_DEVICE void put(Index i, const Quad& value) const {
    y[i % quads] = value;
  }
};

// y = y - scale x
struct Subtract {
  const Quad* x;
  Quad* y;
  float scale;
  Divisor quads;

  template <class Index>
  TRIPHASE_HOST_DEVICE Quad value(Index i) const {
    Quad result = y[i % quads];
    const Quad more = x[i % quads];
    for (int n = 0; n < 4; ++n) result.values[n] -= scale * more.values[n];
    return result;
  }
  template <class Index>
  TRIPHASE_HOST_DEVICE void put(Index i, const Quad& value) const {
    y[i % quads] = value;
  }
};

// sum = of all numbers.   segments: 1
struct SumOfQuads {
  const Quad* x;
  float* sum;
  Divisor quads;

  using Sum = float;
  std::false_type adjacent() const { return {}; }
  TRIPHASE_HOST_DEVICE static Sum nothing() { return 0; }
  template <class Index>
  TRIPHASE_HOST_DEVICE Sum term(Index, Index t) const {
    const Quad quad = x[t % quads];
    return (quad.values[0] + quad.values[1]) + (quad.values[2] + quad.values[3]);
  }
  TRIPHASE_HOST_DEVICE static Sum merge(Sum a, Sum b) { return a + b; }
  TRIPHASE_HOST_DEVICE void finish(int64_t, Sum all) const { *sum = all; }
};

// Goes so many steps from *place to next[*place], and writes where it came to.   One thread.
struct Chase {
  const uint32_t* next;
  uint32_t* place;
  int64_t loads;

  TRIPHASE_HOST_DEVICE uint32_t value(int64_t) const {
    uint32_t at = *place;
    for (int64_t i = 0; i < loads; ++i) at = next[at];
    return at;
  }
  TRIPHASE_HOST_DEVICE void put(int64_t, uint32_t at) const { *place = at; }
};

}  // namespace triphase::cuda::kernels
