// SPDX-License-Identifier: Apache-2.0
// Sums of many terms: what their kernels share, and the two halves of a sum that many blocks compute.
//
// A kernel has term(segment, t), which is merged into a thread's sum, or add_term(), which adds it there.
#pragma once

#include <cstdint>

#include "core/divisor.h"
#include "core/host_device.h"

namespace triphase::cuda::kernels {

// Of fewer, a block would be idle in most of its threads: they sum neighbouring segments together, adjacent or not.
inline constexpr int64_t kFewTerms = 64;

template <class Kernel, class Index>
TRIPHASE_HOST_DEVICE void add_term_to(typename Kernel::Sum& sum, const Kernel& kernel, Index segment, Index t) {
  if constexpr (requires { kernel.add_term(sum, segment, t); }) {
    kernel.add_term(sum, segment, t);
  } else {
    sum = Kernel::merge(sum, kernel.term(segment, t));
  }
}

// Where term t of channel c lies in an [N, channels, inner] tensor.
template <class Index>
TRIPHASE_HOST_DEVICE Index in_channel(Index c, Index t, const Divisor& channels, const Divisor& inner) {
  if (inner == 1) return t * channels + c;
  return (t / inner * channels + c) * inner + t % inner;
}

// gradient[c] = sum of dy over all but the channels.   segments: channels  terms: N inner
template <class T>
struct BiasGradient {
  const T* dy;
  T* gradient;
  Divisor channels, inner;

  using Sum = float;
  bool adjacent() const { return inner == 1; }
  TRIPHASE_HOST_DEVICE static Sum nothing() { return 0; }
  template <class Index>
  TRIPHASE_HOST_DEVICE Sum term(Index c, Index t) const {
    return dy[in_channel(c, t, channels, inner)];
  }
  TRIPHASE_HOST_DEVICE static Sum merge(Sum a, Sum b) { return a + b; }
  TRIPHASE_HOST_DEVICE void finish(int64_t c, Sum sum) const { gradient[c] = sum; }
};

// A reduction's first half: segment s sums the terms [p length, (p + 1) length) of its segment s - p segments, where p
// = s / segments.
template <class Kernel>
struct InParts {
  Kernel kernel;
  typename Kernel::Sum* parts;
  Divisor segments;
  int64_t terms, length;

  using Sum = typename Kernel::Sum;
  TRIPHASE_HOST_DEVICE static Sum nothing() { return Kernel::nothing(); }
  template <class Index>
  TRIPHASE_HOST_DEVICE void add_term(Sum& sum, Index s, Index t) const {
    add_term_to(sum, kernel, static_cast<Index>(s % segments), static_cast<Index>(s / segments * length + t));
  }
  // How many terms segment s has: the last parts have fewer, or none.
  template <class Index>
  TRIPHASE_HOST_DEVICE Index terms_of(Index s) const {
    const auto left = static_cast<Index>(terms - s / segments * length);
    return left < length ? left : static_cast<Index>(length);
  }
  TRIPHASE_HOST_DEVICE static Sum merge(Sum a, Sum b) { return Kernel::merge(a, b); }
  TRIPHASE_HOST_DEVICE void finish(int64_t s, Sum sum) const { parts[s] = sum; }
};

// Its second half: sums the parts.
template <class Kernel>
struct OfParts {
  Kernel kernel;
  const typename Kernel::Sum* parts;
  int64_t segments;

  using Sum = typename Kernel::Sum;
  TRIPHASE_HOST_DEVICE static Sum nothing() { return Kernel::nothing(); }
  TRIPHASE_HOST_DEVICE Sum term(int64_t s, int64_t t) const { return parts[t * segments + s]; }
  TRIPHASE_HOST_DEVICE static Sum merge(Sum a, Sum b) { return Kernel::merge(a, b); }
  TRIPHASE_HOST_DEVICE void finish(int64_t s, Sum sum) const { kernel.finish(s, sum); }
};

}  // namespace triphase::cuda::kernels
