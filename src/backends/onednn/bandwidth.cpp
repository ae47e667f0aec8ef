// SPDX-License-Identifier: Apache-2.0
#include "backends/onednn/bandwidth.h"

#include <omp.h>

#include <algorithm>
#include <cstddef>

#include "backends/evict.h"

#if defined(__AVX512F__) || defined(__AVX__)
#include <immintrin.h>
#endif

namespace triphase {
namespace {

// After it the compiler may not assume what memory holds, so that no repeat is left out or merged with another.
void barrier() { asm volatile("" ::: "memory"); }

// Calls loop(first, count) for each thread's own stretch, in whole cache lines.
template <class Loop>
void over_stretches(int64_t count, int64_t repeats, Loop loop) {
#pragma omp parallel
  {
    constexpr int64_t kLine = 16;
    const int64_t threads = omp_get_num_threads();
    const int64_t lines = count / kLine;
    const int64_t first = lines * omp_get_thread_num() / threads * kLine;
    const int64_t last = lines * (omp_get_thread_num() + 1) / threads * kLine;
    for (int64_t i = 0; i < repeats; ++i) {
      loop(first, last - first);
      barrier();
    }
  }
}

// Eight vectors under way at once, or the latency of an addition would be the limit.
float sum(const float* x, int64_t count) {
  constexpr int64_t kAtOnce = 128;
  float sums[kAtOnce] = {};
  for (int64_t i = 0; i + kAtOnce <= count; i += kAtOnce) {
#pragma omp simd
    for (int64_t j = 0; j < kAtOnce; ++j) sums[j] += x[i + j];
  }
  float total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t j = 0; j < kAtOnce; ++j) total += sums[j];
  return total;
}

void write(float* __restrict y, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) y[i] = 1.5F;
}

void copy(const float* __restrict x, float* __restrict y, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) y[i] = x[i];
}

void update(float* __restrict w, const float* __restrict g, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) w[i] -= 1e-9F * g[i];
}

}  // namespace

void read_floats(const float* x, int64_t count, int64_t repeats) {
  over_stretches(count, repeats, [=](int64_t first, int64_t size) {
    const volatile float kept = sum(x + first, size);
    static_cast<void>(kept);
  });
}

void write_floats(float* y, int64_t count, int64_t repeats) {
  over_stretches(count, repeats, [=](int64_t first, int64_t size) { write(y + first, size); });
}

bool stream_floats(float* y, int64_t count, int64_t repeats) {
#if defined(__AVX512F__)
  over_stretches(count, repeats, [=](int64_t first, int64_t size) {
    const __m512 value = _mm512_set1_ps(1.5F);
    for (int64_t i = 0; i < size; i += 16) _mm512_stream_ps(y + first + i, value);
    _mm_sfence();
  });
  return true;
#elif defined(__AVX__)
  over_stretches(count, repeats, [=](int64_t first, int64_t size) {
    const __m256 value = _mm256_set1_ps(1.5F);
    for (int64_t i = 0; i < size; i += 8) _mm256_stream_ps(y + first + i, value);
    _mm_sfence();
  });
  return true;
#else
  static_cast<void>(y), static_cast<void>(count), static_cast<void>(repeats);
  return false;
#endif
}

void copy_floats(const float* x, float* y, int64_t count, int64_t repeats) {
  over_stretches(count, repeats, [=](int64_t first, int64_t size) { copy(x + first, y + first, size); });
}

void update_floats(float* w, const float* g, int64_t count, int64_t repeats) {
  over_stretches(count, repeats, [=](int64_t first, int64_t size) { update(w + first, g + first, size); });
}

void empty_region() {
#pragma omp parallel
  barrier();
}

void evict_by_threads(const void* data, int64_t bytes) {
  constexpr int64_t kPiece = 16 << 10;
  const auto* begin = static_cast<const std::byte*>(data);
#pragma omp parallel for schedule(static)
  for (int64_t offset = 0; offset < bytes; offset += kPiece) {
    evict_lines(begin + offset, std::min(kPiece, bytes - offset));
  }
}

}  // namespace triphase
