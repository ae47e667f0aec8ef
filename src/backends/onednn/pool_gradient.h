// SPDX-License-Identifier: Apache-2.0
// The gradient of a max-pool and of the ReLU before it as one own AVX-512 loop over blocks of 16 channels. Each row of
// dx is summed in the cache from the windows that reach it and written once, where a library fills with zeros,
// scatters, and then masks. ReLU's mask is taken on the pooled output: an element that is some window's largest equals
// that window's output, and the gradient of all others is zero anyway.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/narrow.h"
#include "ops/ops.h"

namespace triphase {

// The outputs [begin, end) whose windows reach an input position along dimension d.
struct Reach {
  int64_t begin, end;
};

inline Reach reach(const Window& window, size_t d, int64_t input, int64_t outputs) {
  const int64_t position = input + window.padding[d];
  const int64_t stride = window.stride[d];
  const int64_t first = position < window.kernel[d] ? 0 : (position - window.kernel[d]) / stride + 1;
  return {first, std::min(outputs, position / stride + 1)};
}

// Whether the loop was compiled for this machine.
bool have_pool_gradient();

// Columns of x, with padding and kernel, that the loop has room for.
inline constexpr int64_t kMostPoolWidth = 1024;

// Shapes are logical, [N, C, H, W], with dilation 1; all tensors lie alike, with at least 16 channels side by side.
// dx = scatter of dy to the taps where y > 0, zero elsewhere.   dy, y, tap: [N, C, OH, OW]  dx: [N, C, H, W]
struct PoolGradient {
  Window window;
  Shape x;
  Shape y;
  bool stream = false;  // dx is written past the caches
  int64_t pixel = 16;   // channels side by side: 16 as nChw16c, or all, a multiple of 16, as nhwc

  // T is float or BF16; summed in f32. Without `output` (y) there is no ReLU.
  template <class T>
  void operator()(const T* dy, const T* output, const uint8_t* tap, T* dx) const;
};

}  // namespace triphase
