// SPDX-License-Identifier: Apache-2.0
// The three matrix products of a linear layer as own AVX-512 loops, for where a library's general product loses: few
// rows, few inputs, or a weight gradient far larger than the caches. Each thread takes one stretch of the weights'
// [in, out] matrix, the same in all three products and in the update, so that in a small layer it finds them in its own
// cache; a result is written once, past the caches where asked. Not a general product: x, y and their gradients are
// row-major, and all of one thread's share of dy or y should fit its cache.
#pragma once

#include <cstdint>

namespace triphase {

// Whether the loops were compiled for this machine; the functions below must not be called otherwise.
bool have_products();

// N = rows, C = inputs, K = features.   x: [N, C]  w: [C, K]  y: [N, K]  b: [K], or null
struct ProductShape {
  int64_t rows = 0;
  int64_t inputs = 0;
  int64_t features = 0;
};

enum class Stores { kCached, kStreaming };

// y = relu?(x w + b).   scratch: product_scratch(shape, threads) floats, of any content; so below.
void product_forward(const ProductShape& shape, const float* x, const float* w, const float* b, bool relu, float* y,
                     float* scratch);

// dx = dy wᵀ
void product_backward_data(const ProductShape& shape, const float* dy, const float* w, float* dx, float* scratch);

// dw = xᵀ dy, db = Σ_n dy unless null
void product_backward_weights(const ProductShape& shape, const float* x, const float* dy, float* dw, float* db,
                              Stores stores, float* scratch);

int64_t product_scratch(const ProductShape& shape, int threads);

}  // namespace triphase
