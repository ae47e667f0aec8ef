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

  TRIPHASE_HOST_DEVICE float probability(float x) const { return std::exp(x - largest) / sum; }
  TRIPHASE_HOST_DEVICE float cross_entropy(float x) const { return std::log(sum) + (largest - x); }
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
    return rows[i / classes].probability(x[i]);
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
  TRIPHASE_HOST_DEVICE Sum term(int64_t, int64_t n) const { return rows[n].cross_entropy(x[n * classes + target[n]]); }
  TRIPHASE_HOST_DEVICE static Sum merge(Sum a, Sum b) { return a + b; }
  TRIPHASE_HOST_DEVICE void finish(int64_t, Sum sum) const { *loss = sum / static_cast<float>(count); }
};

// All of a small batch's softmax cross entropy, which takes longer to launch in three than to compute: by one block, in
// stages that all of its threads end before any begins the next. Threads side by side share a row.
template <class T>
struct SmallSoftmaxCrossEntropy {
  static constexpr int kThreads = 256;
  static constexpr int64_t kMostRows = kThreads;
  static constexpr int64_t kMostTerms = 16 * kThreads;  // rows classes
  struct Shared {
    Exponentials sums[kThreads];
    float losses[kThreads];
  };

  const T* x;
  const int32_t* target;
  T* probabilities;
  float* loss;
  Divisor rows, classes;
  Divisor of_row;         // threads: a power of two
  int merges_of_row = 0;  // its logarithm

  SmallSoftmaxCrossEntropy(const T* from, const int32_t* wanted, T* chances, float* mean, int64_t batch, int64_t count)
      : x(from), target(wanted), probabilities(chances), loss(mean), rows(batch), classes(count), of_row(1) {
    while (batch << (merges_of_row + 1) <= kThreads) ++merges_of_row;
    of_row = Divisor(int64_t{1} << merges_of_row);
  }
  static bool takes(int64_t batch, int64_t count) { return batch <= kMostRows && batch * count <= kMostTerms; }

  // The sums of rows; their merges; probabilities and rows' losses; the merges of those, eight halvings of 256.
  TRIPHASE_HOST_DEVICE int stages() const { return 1 + merges_of_row + 1 + 8; }
  TRIPHASE_HOST_DEVICE void run(int stage, int thread, Shared& shared) const {
    if (stage == 0) {
      sum(thread, shared);
    } else if (stage <= merges_of_row) {
      const int half = static_cast<int>(of_row) >> stage;
      Exponentials& own = shared.sums[thread];
      if (thread % of_row < half) own = SumOfExponentials<T>::merge(own, shared.sums[thread + half]);
    } else if (stage == merges_of_row + 1) {
      divide(thread, shared);
    } else {
      const int half = kThreads >> (stage - merges_of_row - 1);
      if (thread < half) shared.losses[thread] += shared.losses[thread + half];
      if (half == 1 && thread == 0) *loss = shared.losses[0] / static_cast<float>(rows);
    }
  }

 private:
  TRIPHASE_HOST_DEVICE void sum(int thread, Shared& shared) const {
    const int row = thread / of_row;
    Exponentials own = SumOfExponentials<T>::nothing();
    if (row < rows) {
      for (int k = thread % of_row; k < classes; k += static_cast<int>(of_row)) {
        own = SumOfExponentials<T>::merge(own, {x[row * classes + k], 1});
      }
    }
    shared.sums[thread] = own;
  }
  TRIPHASE_HOST_DEVICE void divide(int thread, Shared& shared) const {
    const int all = static_cast<int>(rows) * classes;
    for (int i = thread; i < all; i += kThreads) {
      probabilities[i] = shared.sums[i / classes * of_row].probability(x[i]);
    }
    const bool of_a_row = thread < rows;
    shared.losses[thread] =
        of_a_row ? shared.sums[thread * of_row].cross_entropy(x[thread * classes + target[thread]]) : 0.0f;
  }
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
