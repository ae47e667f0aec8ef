// SPDX-License-Identifier: Apache-2.0
// The loops that oneDNN does not have, or not in place: optimizers, losses, element-wise backward. Vectorised by the
// compiler, shared between the threads of the one OpenMP pool. Pointers are to stored elements, padding included.
#pragma once

#include <cstdint>

#include "optimizers/optimizers.h"

namespace triphase {

// Below this many elements a fork and join of the threads costs more than it saves.
constexpr int64_t kParallelFrom = 16 * 1024;

// Denormals become zero in every thread of the pool.
void flush_denormals();

// out[i] = levels[random_level(stream, first + i * stride)], by the calling thread alone.
void fill_levels(float* out, uint64_t stream, int64_t first, int64_t stride, int64_t count, const float* levels);

void relu(const float* x, float* y, int64_t count);
// dx = dy where y > 0, else 0; dx may be dy.
void relu_backward(const float* dy, const float* y, float* dx, int64_t count);
void add(const float* a, const float* b, float* y, int64_t count);

// db[k] = sum_n dy[n,k].   dy: [rows, columns], row-major
void bias_gradient(const float* dy, float* db, int64_t rows, int64_t columns);

// Row-major. x, probabilities: [rows, classes]  target: [rows]. Gives the mean loss.
float softmax_cross_entropy(const float* x, const int32_t* target, float* probabilities, int64_t rows, int64_t classes);
void softmax_cross_entropy_backward(const float* probabilities, const int32_t* target, float* dx, int64_t rows,
                                    int64_t classes);
float mean_square(const float* x, int64_t count, int64_t stored);
void mean_square_backward(const float* x, float* dx, int64_t count, int64_t stored);

// new = keep * old + take * current, in place.
void blend(float* running, const float* current, double keep, double take, int64_t count);

// One step of every parameter, in place.   w, g, states[i]: [count]
void update(const Optimizer& optimizer, float* w, const float* g, float* const* states, const float* scalars,
            int64_t count);

}  // namespace triphase
