// SPDX-License-Identifier: Apache-2.0
// The gradient of a max-pool and of the ReLU before it as one own AVX-512 loop over blocks of 16 channels. Each row of
// dx is summed in the cache from the windows that reach it and written once, where a library fills with zeros,
// scatters, and then masks. ReLU's mask is taken on the pooled output: an element that is some window's largest equals
// that window's output, and the gradient of all others is zero anyway.
#pragma once

#include <cstdint>

#include "ops/ops.h"

namespace triphase {

// Whether the loop was compiled for this machine.
bool have_pool_gradient();

// Columns of x, with padding and kernel, that the loop has room for.
inline constexpr int64_t kMostPoolWidth = 1024;

// Shapes are logical, [N, C, H, W]; memory is nChw16c throughout, with dilation 1.
// dx = scatter of dy to the taps where y > 0, zero elsewhere.   dy, y, tap: [N, C, OH, OW]  dx: [N, C, H, W]
struct PoolGradient {
  Window window;
  Shape x;
  Shape y;
  bool stream = false;  // dx is written past the caches

  void operator()(const float* dy, const float* output, const uint8_t* tap, float* dx) const;
};

}  // namespace triphase
