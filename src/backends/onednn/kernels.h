// SPDX-License-Identifier: Apache-2.0
// The loops that oneDNN does not have, or not in place: optimizers, losses, element-wise backward. Vectorised by the
// compiler, shared between the threads of the one OpenMP pool. Pointers are to stored elements, padding included.
//
// T is what activations, their gradients and copies of weights are kept in: float or BF16. All is computed in f32.
#pragma once

#include <array>
#include <cstdint>
#include <stdexcept>

#include "core/narrow.h"
#include "ops/ops.h"
#include "optimizers/optimizers.h"

namespace triphase {

// Below this many elements a fork and join of the threads costs more than it saves.
constexpr int64_t kParallelFrom = 16 * 1024;

// Calls f.template operator()<T>() with that of a dtype.
template <class F>
void with_kept_type(DType dtype, F f) {
  if (dtype == DType::kF16) throw std::logic_error("no loops for f16");
  if (dtype == DType::kBF16) {
    f.template operator()<BF16>();
  } else {
    f.template operator()<float>();
  }
}

// Denormals become zero in every thread of the pool.
void flush_denormals();

// out[i] = levels[random_level(stream, first + i * stride)], by the calling thread alone.
template <class T>
void fill_levels(T* out, uint64_t stream, int64_t first, int64_t stride, int64_t count, const float* levels);

template <class T>
void relu(const T* x, T* y, int64_t count);
// dx = dy where y > 0, else 0; dx may be dy.
template <class T>
void relu_backward(const T* dy, const T* y, T* dx, int64_t count);
template <class T>
void add(const T* a, const T* b, T* y, int64_t count);

// db[k] = sum_n dy[n,k].   dy: [rows, columns], row-major
template <class T>
void bias_gradient(const T* dy, T* db, int64_t rows, int64_t columns);

// Planes of an image with `inner` channels side by side.   x: [outer, in[0], in[1], inner]  y: [outer, out.., inner]
struct PooledPlanes {
  Window window;  // of dilation 1
  int64_t outer = 0, inner = 0;
  std::array<int64_t, 2> in{}, out{};

  // A window that reaches an element of x: where it is, which of its taps that is, and where its first channel of y is.
  struct Place {
    int64_t row, column, tap, element;
  };
};

// dx = the sum of dy of the windows whose tap it is, in f32 however many there are.
template <class T>
void max_pool_backward(const PooledPlanes& planes, const T* dy, const uint8_t* tap, T* dx);
// dx = the sum of dy of the windows that hold it over their number of taps.
template <class T>
void average_pool_backward(const PooledPlanes& planes, bool count_padding, const T* dy, T* dx);

// Row-major. x, probabilities: [rows, classes]  target: [rows]. Gives the mean loss.
template <class T>
float softmax_cross_entropy(const T* x, const int32_t* target, T* probabilities, int64_t rows, int64_t classes);
template <class T>
void softmax_cross_entropy_backward(const T* probabilities, const int32_t* target, T* dx, int64_t rows,
                                    int64_t classes);
template <class T>
float mean_square(const T* x, int64_t count, int64_t stored);
template <class T>
void mean_square_backward(const T* x, T* dx, int64_t count, int64_t stored);

// new = keep * old + take * current, in place.
void blend(float* running, const float* current, double keep, double take, int64_t count);

// Every two rows of so many elements become one of pairs: a0 a1 ... b0 b1 ... to a0 b0 a1 b1 ...
constexpr int64_t kPairedRow = 16;
void interleave_rows(BF16* data, int64_t count);

// One step of every parameter, in place.   w, g, states[i], copy: [count]. With T = BF16 the new w is also written to
// `copy`, rounded; else that is ignored.
template <class T>
void update(const Optimizer& optimizer, float* w, const T* g, float* const* states, const float* scalars, T* copy,
            int64_t count);

}  // namespace triphase
