// SPDX-License-Identifier: Apache-2.0
// Losses and their gradients.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "backends/cuda/kernels/sums.h"
#include "core/divisor.h"
#include "core/host_device.h"

namespace triphase::cuda::kernels {

// What softmax needs of a row: its largest x, and the sum of exp(x - largest).
struct Exponentials {
  float largest, sum;
};

// probabilities = exp(x - largest) / sum, of the row
template <class T>
struct Probabilities {
  const T* x;
  const Exponentials* rows;
  T* probabilities;
  Divisor classes;

  template <class Index>
  TRIPHASE_HOST_DEVICE float value(Index i) const {
    const Exponentials& row = rows[i / classes];
    return std::exp(x[i] - row.largest) / row.sum;
  }
  TRIPHASE_HOST_DEVICE void put(int64_t i, float value) const { probabilities[i] = value; }
};

// dx = (probabilities - onehot(target)) scale
template <class T>
struct SoftmaxCrossEntropyBackward {
  const T* probabilities;
  const int32_t* target;
  T* dx;
  Divisor classes;
  float scale;

  template <class Index>
  TRIPHASE_HOST_DEVICE float value(Index i) const {
    return (probabilities[i] - (i % classes == target[i / classes] ? 1.0f : 0.0f)) * scale;
  }
  TRIPHASE_HOST_DEVICE void put(int64_t i, float value) const { dx[i] = value; }
};

// rows[n] of x[n, :].   segments: rows  terms: classes
template <class T>
struct SumOfExponentials {
  const T* x;
  Exponentials* rows;
  int64_t classes;

  using Sum = Exponentials;
  bool adjacent() const { return classes < kFewTerms; }
  TRIPHASE_HOST_DEVICE static Sum nothing() { return {0, 0}; }
  TRIPHASE_HOST_DEVICE Sum term(int64_t n, int64_t k) const { return {x[n * classes + k], 1}; }
  TRIPHASE_HOST_DEVICE static Sum merge(Sum a, Sum b) {
    if (a.sum == 0) return b;
    if (b.sum == 0) return a;
    const bool first = a.largest > b.largest;
    const Sum more = first ? a : b;
    const Sum less = first ? b : a;
    return {more.largest, more.sum + less.sum * std::exp(less.largest - more.largest)};
  }
  TRIPHASE_HOST_DEVICE void finish(int64_t n, Sum sum) const { rows[n] = sum; }
};

// loss = mean of log(sum) + largest - x[n, target[n]].   segments: 1  terms: rows
template <class T>
struct CrossEntropy {
  const T* x;
  const int32_t* target;
  const Exponentials* rows;
  float* loss;
  int64_t classes, count;

  using Sum = float;
  std::false_type adjacent() const { return {}; }
  TRIPHASE_HOST_DEVICE static Sum nothing() { return 0; }
  TRIPHASE_HOST_DEVICE Sum term(int64_t, int64_t n) const {
    return std::log(rows[n].sum) + (rows[n].largest - x[n * classes + target[n]]);
  }
  TRIPHASE_HOST_DEVICE static Sum merge(Sum a, Sum b) { return a + b; }
  TRIPHASE_HOST_DEVICE void finish(int64_t, Sum sum) const { *loss = sum / static_cast<float>(count); }
};

// loss = mean of x².   segments: 1  terms: count
template <class T>
struct MeanSquare {
  const T* x;
  float* loss;
  int64_t count;

  using Sum = float;
  std::false_type adjacent() const { return {}; }
  TRIPHASE_HOST_DEVICE static Sum nothing() { return 0; }
  TRIPHASE_HOST_DEVICE Sum term(int64_t, int64_t t) const { return x[t] * x[t]; }
  TRIPHASE_HOST_DEVICE static Sum merge(Sum a, Sum b) { return a + b; }
  TRIPHASE_HOST_DEVICE void finish(int64_t, Sum sum) const { *loss = sum / static_cast<float>(count); }
};

}  // namespace triphase::cuda::kernels
