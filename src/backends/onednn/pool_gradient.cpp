// SPDX-License-Identifier: Apache-2.0
#include "backends/onednn/pool_gradient.h"

#include <algorithm>
#include <stdexcept>

#if defined(__AVX512BW__) && defined(__AVX512VL__)
#define TRIPHASE_POOL_GRADIENT
#include <immintrin.h>
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // g++ 12 warns falsely within intrinsics (GCC bug 105593)
#endif

#include "backends/onednn/kernels.h"
#endif

namespace triphase {

#ifndef TRIPHASE_POOL_GRADIENT

bool have_pool_gradient() { return false; }

template <class T>
void PoolGradient::operator()(const T*, const T*, const uint8_t*, T*) const {
  throw std::logic_error("no AVX-512");
}

#else

namespace {

constexpr int64_t kLanes = 16;

__m512 loaded(const float* from) { return _mm512_loadu_ps(from); }
__m512 loaded(const BF16* from) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

void stored(float* to, __m512 sums, bool stream) {
  if (stream) {
    _mm512_stream_ps(to, sums);
  } else {
    _mm512_storeu_ps(to, sums);
  }
}
// Rounded as BF16 rounds.
void stored(BF16* to, __m512 sums, bool stream) {
  const __m512i bits = _mm512_castps_si512(sums);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  const __m512i kept = _mm512_mask_mov_epi32(up, _mm512_cmp_ps_mask(sums, sums, _CMP_UNORD_Q), quiet);
  const __m256i narrow = _mm512_cvtepi32_epi16(_mm512_srli_epi32(kept, 16));
  if (stream) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to), narrow);
  } else {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), narrow);
  }
}

// Adds the gradients of one row of windows, `pixel` elements apart, to the row of dx where their taps from `first_tap`
// on fall. kTaps is the kernel's width, or 0 for any.
template <int kTaps, class T>
void add_windows(const Window& window, int64_t outputs, int64_t pixel, int64_t first_tap, const T* dy, const T* output,
                 const uint8_t* tap, __m512* sums) {
  const int64_t taps = kTaps > 0 ? kTaps : window.kernel[1];
  for (int64_t at = 0; at < outputs * pixel; at += pixel, sums += window.stride[1]) {
    const __mmask16 passes =
        output ? _mm512_cmp_ps_mask(loaded(output + at), _mm512_setzero_ps(), _CMP_GT_OQ) : __mmask16{0xffff};
    const __m512 gradient = _mm512_maskz_mov_ps(passes, loaded(dy + at));
    const __m128i found = _mm_loadu_si128(reinterpret_cast<const __m128i*>(tap + at));
    for (int64_t j = 0; j < taps; ++j) {
      const __mmask16 here = _mm_cmpeq_epi8_mask(found, _mm_set1_epi8(static_cast<char>(first_tap + j)));
      sums[j] = _mm512_mask_add_ps(sums[j], here, sums[j], gradient);
    }
  }
}

}  // namespace

bool have_pool_gradient() { return true; }

template <class T>
void PoolGradient::operator()(const T* dy, const T* output, const uint8_t* tap, T* dx) const {
  const int64_t blocks_of_pixel = pixel / kLanes;
  // Where a block's row begins in an image of so many rows and columns.
  const auto begin_of = [&](int64_t block, int64_t row, int64_t rows, int64_t columns) {
    return (block / blocks_of_pixel * rows + row) * columns * pixel + block % blocks_of_pixel * kLanes;
  };
  const int64_t blocks = x[0] * ((x[1] + kLanes - 1) / kLanes);
  const int64_t height = x[2];
  const int64_t width = x[3];
  const int64_t rows = blocks * height;
#pragma omp parallel for schedule(static) if (rows * width * kLanes >= kParallelFrom)
  for (int64_t row = 0; row < rows; ++row) {
    __m512 sums[kMostPoolWidth];  // of one row of dx with its padding
    std::fill_n(sums, width + 2 * window.padding[1] + window.kernel[1], _mm512_setzero_ps());
    const int64_t ih = row % height;
    const Reach reached = reach(window, 0, ih, y[2]);
    for (int64_t oh = reached.begin; oh < reached.end; ++oh) {
      const int64_t first_tap = (ih + window.padding[0] - oh * window.stride[0]) * window.kernel[1];
      const int64_t outputs = begin_of(row / height, oh, y[2], y[3]);
      const auto add = window.kernel[1] == 3   ? add_windows<3, T>
                       : window.kernel[1] == 2 ? add_windows<2, T>
                                               : add_windows<0, T>;
      add(window, y[3], pixel, first_tap, dy + outputs, output ? output + outputs : nullptr, tap + outputs, sums);
    }
    T* const to = dx + begin_of(row / height, ih, height, width);
    for (int64_t iw = 0; iw < width; ++iw) stored(to + iw * pixel, sums[window.padding[1] + iw], stream);
    if (stream) _mm_sfence();
  }
}

#endif

template void PoolGradient::operator()(const float*, const float*, const uint8_t*, float*) const;
template void PoolGradient::operator()(const BF16*, const BF16*, const uint8_t*, BF16*) const;

}  // namespace triphase
