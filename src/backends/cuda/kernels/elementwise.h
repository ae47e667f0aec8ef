// SPDX-License-Identifier: Apache-2.0
// What computes each element of a tensor from the same one of others.
#pragma once

#include <cstdint>

#include "core/divisor.h"
#include "core/host_device.h"

namespace triphase::cuda::kernels {

// y = max(x, 0)
template <class T>
struct Relu {
  const T* x;
  T* y;

  TRIPHASE_HOST_DEVICE float value(int64_t i) const { return x[i] > 0.0f ? x[i] : T(0.0f); }
  TRIPHASE_HOST_DEVICE void put(int64_t i, float value) const { y[i] = value; }
};

// dx = dy where y > 0, else 0
template <class T>
struct ReluBackward {
  const T* dy;
  const T* y;
  T* dx;

  TRIPHASE_HOST_DEVICE float value(int64_t i) const { return y[i] > 0.0f ? dy[i] : T(0.0f); }
  TRIPHASE_HOST_DEVICE void put(int64_t i, float value) const { dx[i] = value; }
};

// y = a + b
template <class T>
struct Add {
  const T* a;
  const T* b;
  T* y;

  TRIPHASE_HOST_DEVICE float value(int64_t i) const { return a[i] + b[i]; }
  TRIPHASE_HOST_DEVICE void put(int64_t i, float value) const { y[i] = value; }
};

// y = x + bias[c], and relu where asked.   x, y: [N, channels, inner...]
template <class T>
struct AddBias {
  const T* x;
  const T* bias;
  T* y;
  Divisor channels, inner;
  bool relu;

  template <class Index>
  TRIPHASE_HOST_DEVICE float value(Index i) const {
    const float sum = x[i] + bias[i / inner % channels];
    return relu && !(sum > 0) ? 0.0f : sum;
  }
  TRIPHASE_HOST_DEVICE void put(int64_t i, float value) const { y[i] = value; }
};

// Where element `index` of a row-major [N, channels, inner] lies as [N, inner, channels]. With the two exchanged it is
// the way back.
template <class Index, class Size>
TRIPHASE_HOST_DEVICE Index channels_last(Index index, const Size& channels, const Size& inner) {
  const Index row = index / inner;
  return (row / channels * inner + index % inner) * channels + row % channels;
}

// y = x in the other order of channels.   x: [N, inner, channels]  y: [N, channels, inner]
template <class T>
struct Transpose {
  const T* x;
  T* y;
  Divisor channels, inner;

  template <class Index>
  TRIPHASE_HOST_DEVICE float value(Index i) const {
    return x[channels_last(i, channels, inner)];
  }
  TRIPHASE_HOST_DEVICE void put(int64_t i, float value) const { y[i] = value; }
};

// y = x scale
template <class T>
struct Scale {
  const T* x;
  T* y;
  float scale;

  TRIPHASE_HOST_DEVICE float value(int64_t i) const { return x[i] * scale; }
  TRIPHASE_HOST_DEVICE void put(int64_t i, float value) const { y[i] = value; }
};

// copy = x
template <class T>
struct Convert {
  const float* x;
  T* copy;

  TRIPHASE_HOST_DEVICE float value(int64_t i) const { return x[i]; }
  TRIPHASE_HOST_DEVICE void put(int64_t i, float value) const { copy[i] = value; }
};

}  // namespace triphase::cuda::kernels
