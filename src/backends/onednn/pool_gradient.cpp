// SPDX-License-Identifier: Apache-2.0
#include "backends/onednn/pool_gradient.h"

#include <algorithm>
#include <stdexcept>

#if defined(__AVX512BW__) && defined(__AVX512VL__)
#define TRIPHASE_POOL_GRADIENT
#include <immintrin.h>

#include "backends/onednn/kernels.h"
#endif

namespace triphase {

#ifndef TRIPHASE_POOL_GRADIENT

bool have_pool_gradient() { return false; }

void PoolGradient::operator()(const float*, const float*, const uint8_t*, float*) const {
  throw std::logic_error("no AVX-512");
}

#else

namespace {

constexpr int64_t kLanes = 16;

// The outputs [begin, end) whose windows reach an input position along dimension d.
struct Reach {
  int64_t begin, end;
};

Reach reach(const Window& window, size_t d, int64_t input, int64_t outputs) {
  const int64_t position = input + window.padding[d];
  const int64_t stride = window.stride[d];
  const int64_t first = position < window.kernel[d] ? 0 : (position - window.kernel[d]) / stride + 1;
  return {first, std::min(outputs, position / stride + 1)};
}

// Adds the gradients of one row of windows to the row of dx where their taps from `first_tap` on fall. kTaps is the
// kernel's width, or 0 for any.
template <int kTaps>
void add_windows(const Window& window, int64_t outputs, int64_t first_tap, const float* dy, const float* output,
                 const uint8_t* tap, __m512* sums) {
  const int64_t taps = kTaps > 0 ? kTaps : window.kernel[1];
  for (int64_t at = 0; at < outputs * kLanes; at += kLanes, sums += window.stride[1]) {
    const __mmask16 passes = _mm512_cmp_ps_mask(_mm512_loadu_ps(output + at), _mm512_setzero_ps(), _CMP_GT_OQ);
    const __m512 gradient = _mm512_maskz_loadu_ps(passes, dy + at);
    const __m128i found = _mm_loadu_si128(reinterpret_cast<const __m128i*>(tap + at));
    for (int64_t j = 0; j < taps; ++j) {
      const __mmask16 here = _mm_cmpeq_epi8_mask(found, _mm_set1_epi8(static_cast<char>(first_tap + j)));
      sums[j] = _mm512_mask_add_ps(sums[j], here, sums[j], gradient);
    }
  }
}

}  // namespace

bool have_pool_gradient() { return true; }

void PoolGradient::operator()(const float* dy, const float* output, const uint8_t* tap, float* dx) const {
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
      const int64_t outputs = (row / height * y[2] + oh) * y[3] * kLanes;
      const auto add = window.kernel[1] == 3 ? add_windows<3> : window.kernel[1] == 2 ? add_windows<2> : add_windows<0>;
      add(window, y[3], first_tap, dy + outputs, output + outputs, tap + outputs, sums);
    }
    for (int64_t iw = 0; iw < width; ++iw) {
      float* const to = dx + (row * width + iw) * kLanes;
      if (stream) {
        _mm512_stream_ps(to, sums[window.padding[1] + iw]);
      } else {
        _mm512_storeu_ps(to, sums[window.padding[1] + iw]);
      }
    }
    if (stream) _mm_sfence();
  }
}

#endif

}  // namespace triphase
