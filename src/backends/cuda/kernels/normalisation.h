// SPDX-License-Identifier: Apache-2.0
// Batch normalisation: moments by channel, what they normalise, its gradients, running statistics.
#pragma once

#include <cmath>
#include <cstdint>

#include "backends/cuda/kernels/pack.h"
#include "backends/cuda/kernels/sums.h"
#include "core/divisor.h"
#include "core/host_device.h"

namespace triphase::cuda::kernels {

// 1 / sqrt(x), on a GPU by an instruction of its own and without a division, to two units in the last place.
TRIPHASE_HOST_DEVICE inline float inverse_root(float x) {
#ifdef __CUDA_ARCH__
  return rsqrtf(x);
#else
  return 1 / std::sqrt(x);
#endif
}

// What normalises counts in packs of kWidth channels that lie side by side, or in single elements.

// y = (x - mean) / sqrt(variance + epsilon) gamma + beta, each by channel.   x, y: [N, channels, inner]
template <class T, int kWidth>
struct Normalise {
  using Parameters = Pack<float, kWidth>;
  const Pack<T, kWidth>* x;
  const Parameters* gamma;
  const Parameters* beta;
  const Parameters* mean;
  const Parameters* variance;
  Pack<T, kWidth>* y;
  Divisor channels, inner;
  float epsilon;

  template <class Index>
  TRIPHASE_HOST_DEVICE Pack<float, kWidth> value(Index i) const {
    const Index c = i / inner % channels;
    const Pack<T, kWidth> from = x[i];
    const Parameters g = gamma[c], b = beta[c], m = mean[c], v = variance[c];
    Pack<float, kWidth> result;
    TRIPHASE_UNROLL
    for (int n = 0; n < kWidth; ++n) {
      result.values[n] =
          (from.values[n] - m.values[n]) * inverse_root(v.values[n] + epsilon) * g.values[n] + b.values[n];
    }
    return result;
  }
  TRIPHASE_HOST_DEVICE void put(int64_t i, const Pack<float, kWidth>& value) const { y[i] = value.template as<T>(); }
};

// dx = gamma inverse (dy - dbeta share - (x - mean) inverse dgamma share), inverse = 1 / sqrt(variance + epsilon), of
// whose channel each value is a share.
template <class T, int kWidth>
struct NormaliseBackward {
  using Parameters = Pack<float, kWidth>;
  const Pack<T, kWidth>* dy;
  const Pack<T, kWidth>* x;
  const Parameters* gamma;
  const Parameters* mean;
  const Parameters* variance;
  const Parameters* dgamma;
  const Parameters* dbeta;
  Pack<T, kWidth>* dx;
  Divisor channels, inner;
  float epsilon, share;

  template <class Index>
  TRIPHASE_HOST_DEVICE Pack<float, kWidth> value(Index i) const {
    const Index c = i / inner % channels;
    const Pack<T, kWidth> gradient = dy[i];
    const Pack<T, kWidth> from = x[i];
    const Parameters g = gamma[c], m = mean[c], v = variance[c], dg = dgamma[c], db = dbeta[c];
    Pack<float, kWidth> result;
    TRIPHASE_UNROLL
    for (int n = 0; n < kWidth; ++n) {
      const float inverse = inverse_root(v.values[n] + epsilon);
      const float product = (from.values[n] - m.values[n]) * inverse * (dg.values[n] * share);
      result.values[n] = g.values[n] * inverse * (gradient.values[n] - db.values[n] * share - product);
    }
    return result;
  }
  TRIPHASE_HOST_DEVICE void put(int64_t i, const Pack<float, kWidth>& value) const { dx[i] = value.template as<T>(); }
};

// running = keep running + take current, of two statistics of so many channels, the second's elements after the first's
struct Blend {
  struct Part {
    float* running;
    const float* current;
    float take;
  };
  Part first, second;
  float keep;
  int64_t channels;

  TRIPHASE_HOST_DEVICE float value(int64_t i) const {
    const Part& part = i < channels ? first : second;
    const int64_t c = i < channels ? i : i - channels;
    return keep * part.running[c] + part.take * part.current[c];
  }
  TRIPHASE_HOST_DEVICE void put(int64_t i, float value) const {
    if (i < channels) {
      first.running[i] = value;
    } else {
      second.running[i - channels] = value;
    }
  }
};

// Mean and biased variance by channel.   segments: channels  terms: N inner
//
// A thread sums how far its terms are from an origin, its first term and every kStretch terms their mean, which needs
// no division by term. As the first is one of the terms, what is lost to one that is far from the others is little
// against the variance of all. Threads' sums are merged as by Chan, Golub and LeVeque (1979).
template <class T>
struct Moments {
  const T* x;
  float* mean;
  float* variance;
  Divisor channels, inner;

  struct Sum {
    float count, origin, sum, squares;  // the latter two of differences from the origin

    // The same from the mean as origin.
    TRIPHASE_HOST_DEVICE Sum centred() const {
      if (sum == 0) return *this;
      const float shift = sum / count;
      return {count, origin + shift, 0, squares - sum * shift};
    }
  };
  bool adjacent() const { return inner == 1; }
  TRIPHASE_HOST_DEVICE static Sum nothing() { return {0, 0, 0, 0}; }
  template <class Index>
  TRIPHASE_HOST_DEVICE void add_term(Sum& sum, Index c, Index t) const {
    const float value = x[in_channel(c, t, channels, inner)];
    if (sum.count == 0) sum.origin = value;
    const float difference = value - sum.origin;
    sum.count += 1;
    sum.sum += difference;
    sum.squares += difference * difference;
  }
  TRIPHASE_HOST_DEVICE static Sum merge(const Sum& one, const Sum& other) {
    const Sum a = one.centred();
    const Sum b = other.centred();
    const float count = a.count + b.count;
    if (count == 0) return a;
    const float difference = b.origin - a.origin;
    const float share = b.count / count;
    return {count, a.origin + difference * share, 0, a.squares + b.squares + difference * difference * a.count * share};
  }
  TRIPHASE_HOST_DEVICE void finish(int64_t c, const Sum& all) const {
    const Sum sum = all.centred();
    mean[c] = sum.origin;
    variance[c] = sum.squares / sum.count;
  }
};

// dbeta = sum of dy, dgamma = sum of dy (x - mean) / sqrt(variance + epsilon).   segments: channels  terms: N inner
template <class T>
struct NormaliseGradients {
  const T* dy;
  const T* x;
  const float* mean;
  const float* variance;
  float* dgamma;
  float* dbeta;
  Divisor channels, inner;
  float epsilon;

  struct Sum {
    float dy, product;
  };
  bool adjacent() const { return inner == 1; }
  TRIPHASE_HOST_DEVICE static Sum nothing() { return {0, 0}; }
  template <class Index>
  TRIPHASE_HOST_DEVICE Sum term(Index c, Index t) const {
    const Index i = in_channel(c, t, channels, inner);
    return {dy[i], dy[i] * (x[i] - mean[c])};
  }
  TRIPHASE_HOST_DEVICE static Sum merge(Sum a, Sum b) { return {a.dy + b.dy, a.product + b.product}; }
  TRIPHASE_HOST_DEVICE void finish(int64_t c, Sum sum) const {
    dbeta[c] = sum.dy;
    dgamma[c] = sum.product / std::sqrt(variance[c] + epsilon);
  }
};

}  // namespace triphase::cuda::kernels
