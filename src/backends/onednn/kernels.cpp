// SPDX-License-Identifier: Apache-2.0
#include "backends/onednn/kernels.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <vector>

#include "backends/onednn/pool_gradient.h"
#include "core/random.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace triphase {
namespace {

// What the compiler selects among without a branch: bits.
float kept_if_positive(float y, float value) { return y > 0 ? value : 0; }
BF16 kept_if_positive(BF16 y, BF16 value) {
  value.bits = static_cast<int16_t>(y.bits) > 0 ? value.bits : 0;
  return value;
}

// Stores a value, rounded: bits, as the compiler does not vectorise a loop that assigns objects.
void put(float& to, float value) { to = value; }
void put(BF16& to, float value) { to.bits = BF16(value).bits; }

constexpr int64_t kStrip = 64;  // channels or columns summed at a time, held in registers

// dx = what add(window, width, sums) adds for every window that reaches an element, `width` channels at a time.
template <class T, class F>
void gather(const PooledPlanes& planes, T* dx, F add) {
  const int64_t rows_in_all = planes.outer * planes.in[0];
#pragma omp parallel for schedule(static) if (rows_in_all * planes.in[1] * planes.inner >= kParallelFrom)
  for (int64_t row = 0; row < rows_in_all; ++row) {
    const int64_t input_row = row % planes.in[0];
    const int64_t first_y = row / planes.in[0] * planes.out[0] * planes.out[1] * planes.inner;
    const Reach rows = reach(planes.window, 0, input_row, planes.out[0]);
    for (int64_t column = 0; column < planes.in[1]; ++column) {
      const Reach columns = reach(planes.window, 1, column, planes.out[1]);
      for (int64_t begin = 0; begin < planes.inner; begin += kStrip) {
        const int64_t width = std::min(kStrip, planes.inner - begin);
        float sums[kStrip] = {};
        for (int64_t r = rows.begin; r < rows.end; ++r) {
          const int64_t tap_row = input_row + planes.window.padding[0] - r * planes.window.stride[0];
          for (int64_t c = columns.begin; c < columns.end; ++c) {
            const int64_t tap_column = column + planes.window.padding[1] - c * planes.window.stride[1];
            add({r, c, tap_row * planes.window.kernel[1] + tap_column,
                 first_y + (r * planes.out[1] + c) * planes.inner + begin},
                width, sums);
          }
        }
        T* const to = dx + (row * planes.in[1] + column) * planes.inner + begin;
#pragma omp simd
        for (int64_t i = 0; i < width; ++i) put(to[i], sums[i]);
      }
    }
  }
}

// One thread's share of an update. A function of its own, with pointers that cannot alias, because the compiler
// vectorises it only so.
static_assert(kMostStates <= 2, "give update_stretch() a pointer to each");
template <class Rule, class T>
void update_stretch(const Rule& optimizer, float* __restrict w, const T* __restrict g, float* __restrict state0,
                    float* __restrict state1, const float* scalars, [[maybe_unused]] T* __restrict copy,
                    int64_t count) {
  const Rule rule = optimizer;
  float fixed[kMostScalars] = {};
  std::copy_n(scalars, rule.scalars(1).size(), fixed);
  for (int64_t i = 0; i < count; ++i) {
    float state[kMostStates] = {};
    if constexpr (Rule::kStates > 0) state[0] = state0[i];
    if constexpr (Rule::kStates > 1) state[1] = state1[i];
    float weight = w[i];
    rule.step(weight, static_cast<float>(g[i]), state, fixed);
    w[i] = weight;
    if constexpr (!std::is_same_v<T, float>) copy[i] = weight;
    if constexpr (Rule::kStates > 0) state0[i] = state[0];
    if constexpr (Rule::kStates > 1) state1[i] = state[1];
  }
}

}  // namespace

void flush_denormals() {
#pragma omp parallel
  {
#if defined(__x86_64__)
    constexpr unsigned kFlushToZero = 0x8000;
    constexpr unsigned kDenormalsAreZero = 0x0040;
    _mm_setcsr(_mm_getcsr() | kFlushToZero | kDenormalsAreZero);
#elif defined(__aarch64__)
    uint64_t fpcr;
    asm volatile("mrs %0, fpcr" : "=r"(fpcr));
    asm volatile("msr fpcr, %0" ::"r"(fpcr | (uint64_t{1} << 24)));
#endif
  }
}

template <class T>
void fill_levels(T* out, uint64_t stream, int64_t first, int64_t stride, int64_t count, const float* levels) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    out[i] = levels[random_level(
        stream, static_cast<uint64_t>(first) + static_cast<uint64_t>(i) * static_cast<uint64_t>(stride))];
  }
}

template <class T>
void relu(const T* x, T* y, int64_t count) {
#pragma omp parallel for simd schedule(static) if (count >= kParallelFrom)
  for (int64_t i = 0; i < count; ++i) y[i] = kept_if_positive(x[i], x[i]);
}

template <class T>
void relu_backward(const T* dy, const T* y, T* dx, int64_t count) {
#pragma omp parallel for simd schedule(static) if (count >= kParallelFrom)
  for (int64_t i = 0; i < count; ++i) dx[i] = kept_if_positive(y[i], dy[i]);
}

template <class T>
void add(const T* a, const T* b, T* y, int64_t count) {
#pragma omp parallel for simd schedule(static) if (count >= kParallelFrom)
  for (int64_t i = 0; i < count; ++i) put(y[i], a[i] + b[i]);
}

template <class T>
void bias_gradient(const T* dy, T* db, int64_t rows, int64_t columns) {
  const int64_t strips = (columns + kStrip - 1) / kStrip;
#pragma omp parallel for schedule(static) if (rows * columns >= kParallelFrom)
  for (int64_t strip = 0; strip < strips; ++strip) {
    const int64_t begin = strip * kStrip;
    const int64_t width = std::min(kStrip, columns - begin);
    float sums[kStrip] = {};
    for (int64_t n = 0; n < rows; ++n) {
      const T* row = dy + n * columns + begin;
      if (width == kStrip) {
#pragma omp simd
        for (int64_t k = 0; k < kStrip; ++k) sums[k] += row[k];
      } else {
        for (int64_t k = 0; k < width; ++k) sums[k] += row[k];
      }
    }
    std::copy_n(sums, width, db + begin);
  }
}

template <class T>
void max_pool_backward(const PooledPlanes& planes, const T* dy, const uint8_t* tap, T* dx) {
  gather(planes, dx, [&](const PooledPlanes::Place& window, int64_t width, float* sums) {
    const auto own = static_cast<uint8_t>(window.tap);
    const uint8_t* const found = tap + window.element;
    const T* const gradient = dy + window.element;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) {
      const float value = gradient[i];
      sums[i] += found[i] == own ? value : 0.0f;
    }
  });
}

template <class T>
void average_pool_backward(const PooledPlanes& planes, bool count_padding, const T* dy, T* dx) {
  const auto taps_within = [&](size_t d, int64_t output) {
    const int64_t first = output * planes.window.stride[d] - planes.window.padding[d];
    return std::min(first + planes.window.kernel[d], planes.in[d]) - std::max<int64_t>(first, 0);
  };
  const int64_t area = planes.window.kernel[0] * planes.window.kernel[1];
  gather(planes, dx, [&](const PooledPlanes::Place& window, int64_t width, float* sums) {
    const int64_t count = count_padding ? area : taps_within(0, window.row) * taps_within(1, window.column);
    const float share = 1 / static_cast<float>(count);
    const T* const gradient = dy + window.element;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) sums[i] += static_cast<float>(gradient[i]) * share;
  });
}

template <class T>
float softmax_cross_entropy(const T* x, const int32_t* target, T* probabilities, int64_t rows, int64_t classes) {
  double total = 0;
#pragma omp parallel for schedule(static) reduction(+ : total) if (rows * classes >= kParallelFrom)
  for (int64_t n = 0; n < rows; ++n) {
    const T* row = x + n * classes;
    T* p = probabilities + n * classes;
    const float largest = *std::max_element(row, row + classes);
    float sum = 0;
    if constexpr (std::is_same_v<T, float>) {
      for (int64_t k = 0; k < classes; ++k) sum += p[k] = std::exp(row[k] - largest);
      const float inverse = 1 / sum;
      for (int64_t k = 0; k < classes; ++k) p[k] *= inverse;
    } else {  // rounded once
      for (int64_t k = 0; k < classes; ++k) sum += std::exp(row[k] - largest);
      const float inverse = 1 / sum;
      for (int64_t k = 0; k < classes; ++k) p[k] = std::exp(row[k] - largest) * inverse;
    }
    total += std::log(sum) - (row[target[n]] - largest);
  }
  return static_cast<float>(total / static_cast<double>(rows));
}

template <class T>
void softmax_cross_entropy_backward(const T* probabilities, const int32_t* target, T* dx, int64_t rows,
                                    int64_t classes) {
  const float scale = 1 / static_cast<float>(rows);
#pragma omp parallel for schedule(static) if (rows * classes >= kParallelFrom)
  for (int64_t n = 0; n < rows; ++n) {
    for (int64_t k = 0; k < classes; ++k) {
      put(dx[n * classes + k], (probabilities[n * classes + k] - (k == target[n] ? 1.0f : 0.0f)) * scale);
    }
  }
}

template <class T>
float mean_square(const T* x, int64_t count, int64_t stored) {
  double sum = 0;
#pragma omp parallel for simd schedule(static) reduction(+ : sum) if (stored >= kParallelFrom)
  for (int64_t i = 0; i < stored; ++i) sum += static_cast<double>(static_cast<float>(x[i])) * static_cast<float>(x[i]);
  return static_cast<float>(sum / static_cast<double>(count));
}

template <class T>
void mean_square_backward(const T* x, T* dx, int64_t count, int64_t stored) {
  const auto scale = static_cast<float>(2.0 / static_cast<double>(count));
#pragma omp parallel for simd schedule(static) if (stored >= kParallelFrom)
  for (int64_t i = 0; i < stored; ++i) put(dx[i], x[i] * scale);
}

void blend(float* running, const float* current, double keep, double take, int64_t count) {
  const auto old_weight = static_cast<float>(keep);
  const auto new_weight = static_cast<float>(take);
  for (int64_t i = 0; i < count; ++i) running[i] = old_weight * running[i] + new_weight * current[i];
}

template <class T>
void update(const Optimizer& optimizer, float* w, const T* g, float* const* states, const float* scalars, T* copy,
            int64_t count) {
  std::visit(
      [&](const auto& rule) {
        // Whole cache lines a thread; one contiguous stretch each, as where the gradient was written.
        constexpr int64_t kLine = 16;
        const int64_t lines = (count + kLine - 1) / kLine;
#pragma omp parallel if (count >= kParallelFrom)
        {
          const int64_t threads = omp_get_num_threads();
          const int64_t thread = omp_get_thread_num();
          const int64_t begin = std::min(count, lines * thread / threads * kLine);
          const int64_t end = std::min(count, lines * (thread + 1) / threads * kLine);
          constexpr int kStates = std::remove_cvref_t<decltype(rule)>::kStates;
          update_stretch(rule, w + begin, g + begin, kStates > 0 ? states[0] + begin : nullptr,
                         kStates > 1 ? states[1] + begin : nullptr, scalars, copy ? copy + begin : nullptr,
                         end - begin);
        }
      },
      optimizer);
}

void interleave_rows(BF16* data, int64_t count) {
#pragma omp parallel for schedule(static) if (count >= kParallelFrom)
  for (int64_t begin = 0; begin < count; begin += 2 * kPairedRow) {
    uint16_t rows[2 * kPairedRow];
    std::memcpy(rows, data + begin, sizeof rows);
    uint16_t pairs[2 * kPairedRow];
    for (int64_t i = 0; i < kPairedRow; ++i) {
      pairs[2 * i] = rows[i];
      pairs[2 * i + 1] = rows[kPairedRow + i];
    }
    std::memcpy(static_cast<void*>(data + begin), pairs, sizeof pairs);
  }
}

#define TRIPHASE_FOR(T)                                                                         \
  template void fill_levels(T*, uint64_t, int64_t, int64_t, int64_t, const float*);             \
  template void relu(const T*, T*, int64_t);                                                    \
  template void relu_backward(const T*, const T*, T*, int64_t);                                 \
  template void add(const T*, const T*, T*, int64_t);                                           \
  template void bias_gradient(const T*, T*, int64_t, int64_t);                                  \
  template void max_pool_backward(const PooledPlanes&, const T*, const uint8_t*, T*);           \
  template void average_pool_backward(const PooledPlanes&, bool, const T*, T*);                 \
  template float softmax_cross_entropy(const T*, const int32_t*, T*, int64_t, int64_t);         \
  template void softmax_cross_entropy_backward(const T*, const int32_t*, T*, int64_t, int64_t); \
  template float mean_square(const T*, int64_t, int64_t);                                       \
  template void mean_square_backward(const T*, T*, int64_t, int64_t);                           \
  template void update(const Optimizer&, float*, const T*, float* const*, const float*, T*, int64_t)
TRIPHASE_FOR(float);
TRIPHASE_FOR(BF16);
#undef TRIPHASE_FOR

}  // namespace triphase
