// SPDX-License-Identifier: Apache-2.0
#include "backends/onednn/kernels.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/random.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace triphase {
namespace {

// One thread's share of an update. A function of its own, with pointers that cannot alias, because the compiler
// vectorises it only so.
template <class Rule>
void update_stretch(const Rule& optimizer, float* __restrict w, const float* __restrict g, float* __restrict state0,
                    float* __restrict state1, const float* scalars, int64_t count) {
  const Rule rule = optimizer;
  float fixed[3] = {};
  std::copy_n(scalars, rule.scalars(1).size(), fixed);
  for (int64_t i = 0; i < count; ++i) {
    float state[2] = {};
    if constexpr (Rule::kStates > 0) state[0] = state0[i];
    if constexpr (Rule::kStates > 1) state[1] = state1[i];
    float weight = w[i];
    rule.step(weight, g[i], state, fixed);
    w[i] = weight;
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

void fill_levels(float* out, uint64_t stream, int64_t first, int64_t stride, int64_t count, const float* levels) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    out[i] = levels[random_level(
        stream, static_cast<uint64_t>(first) + static_cast<uint64_t>(i) * static_cast<uint64_t>(stride))];
  }
}

void relu(const float* x, float* y, int64_t count) {
#pragma omp parallel for simd schedule(static) if (count >= kParallelFrom)
  for (int64_t i = 0; i < count; ++i) y[i] = x[i] > 0 ? x[i] : 0;
}

void relu_backward(const float* dy, const float* y, float* dx, int64_t count) {
#pragma omp parallel for simd schedule(static) if (count >= kParallelFrom)
  for (int64_t i = 0; i < count; ++i) dx[i] = y[i] > 0 ? dy[i] : 0;
}

void add(const float* a, const float* b, float* y, int64_t count) {
#pragma omp parallel for simd schedule(static) if (count >= kParallelFrom)
  for (int64_t i = 0; i < count; ++i) y[i] = a[i] + b[i];
}

void bias_gradient(const float* dy, float* db, int64_t rows, int64_t columns) {
  constexpr int64_t kStrip = 64;  // columns a thread sums at a time, held in registers
  const int64_t strips = (columns + kStrip - 1) / kStrip;
#pragma omp parallel for schedule(static) if (rows * columns >= kParallelFrom)
  for (int64_t strip = 0; strip < strips; ++strip) {
    const int64_t begin = strip * kStrip;
    const int64_t width = std::min(kStrip, columns - begin);
    float sums[kStrip] = {};
    for (int64_t n = 0; n < rows; ++n) {
      const float* row = dy + n * columns + begin;
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

float softmax_cross_entropy(const float* x, const int32_t* target, float* probabilities, int64_t rows,
                            int64_t classes) {
  double total = 0;
#pragma omp parallel for schedule(static) reduction(+ : total) if (rows * classes >= kParallelFrom)
  for (int64_t n = 0; n < rows; ++n) {
    const float* row = x + n * classes;
    float* p = probabilities + n * classes;
    const float largest = *std::max_element(row, row + classes);
    float sum = 0;
    for (int64_t k = 0; k < classes; ++k) sum += p[k] = std::exp(row[k] - largest);
    const float inverse = 1 / sum;
    for (int64_t k = 0; k < classes; ++k) p[k] *= inverse;
    total += std::log(sum) - (row[target[n]] - largest);
  }
  return static_cast<float>(total / static_cast<double>(rows));
}

void softmax_cross_entropy_backward(const float* probabilities, const int32_t* target, float* dx, int64_t rows,
                                    int64_t classes) {
  const float scale = 1 / static_cast<float>(rows);
#pragma omp parallel for schedule(static) if (rows * classes >= kParallelFrom)
  for (int64_t n = 0; n < rows; ++n) {
    for (int64_t k = 0; k < classes; ++k) {
      dx[n * classes + k] = (probabilities[n * classes + k] - (k == target[n] ? 1.0f : 0.0f)) * scale;
    }
  }
}

float mean_square(const float* x, int64_t count, int64_t stored) {
  double sum = 0;
#pragma omp parallel for simd schedule(static) reduction(+ : sum) if (stored >= kParallelFrom)
  for (int64_t i = 0; i < stored; ++i) sum += static_cast<double>(x[i]) * x[i];
  return static_cast<float>(sum / static_cast<double>(count));
}

void mean_square_backward(const float* x, float* dx, int64_t count, int64_t stored) {
  const auto scale = static_cast<float>(2.0 / static_cast<double>(count));
#pragma omp parallel for simd schedule(static) if (stored >= kParallelFrom)
  for (int64_t i = 0; i < stored; ++i) dx[i] = x[i] * scale;
}

void blend(float* running, const float* current, double keep, double take, int64_t count) {
  const auto old_weight = static_cast<float>(keep);
  const auto new_weight = static_cast<float>(take);
  for (int64_t i = 0; i < count; ++i) running[i] = old_weight * running[i] + new_weight * current[i];
}

void update(const Optimizer& optimizer, float* w, const float* g, float* const* states, const float* scalars,
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
                         kStates > 1 ? states[1] + begin : nullptr, scalars, end - begin);
        }
      },
      optimizer);
}

}  // namespace triphase
