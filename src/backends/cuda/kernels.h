// SPDX-License-Identifier: Apache-2.0
// The own kernels: what neither cuBLASLt nor cuDNN is asked for. Each is a struct of addresses and sizes, written once
// for the GPU and for the host that stands in for it in tests.
//
// Element kernels compute element i in a call; elements do not depend on each other, so that the result may take the
// place of an operand of the same size. Gradients of windows gather, so that nothing is added atomically and each
// element is written once. Reduction kernels sum terms of a segment in any order by merge(), then finish() it; where
// the same terms of neighbouring segments are adjacent in memory they say so.
//
// T is what activations and their gradients are kept in; all is computed, and parameters are kept, in f32.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <variant>

#include "core/host_device.h"
#include "core/narrow.h"
#include "optimizers/optimizers.h"

namespace triphase::cuda {
namespace kernels {

// --- Element by element -------------------------------------------------------------------------

// y = max(x, 0)
template <class T>
struct Relu {
  const T* x;
  T* y;

  TRIPHASE_HOST_DEVICE void operator()(int64_t i) const { y[i] = x[i] > 0.0f ? x[i] : T(0.0f); }
};

// dx = dy where y > 0, else 0
template <class T>
struct ReluBackward {
  const T* dy;
  const T* y;
  T* dx;

  TRIPHASE_HOST_DEVICE void operator()(int64_t i) const { dx[i] = y[i] > 0.0f ? dy[i] : T(0.0f); }
};

// y = a + b
template <class T>
struct Add {
  const T* a;
  const T* b;
  T* y;

  TRIPHASE_HOST_DEVICE void operator()(int64_t i) const { y[i] = a[i] + b[i]; }
};

// y = x + bias[c], and relu where asked.   x, y: [N, channels, inner...]
template <class T>
struct AddBias {
  const T* x;
  const T* bias;
  T* y;
  int64_t channels, inner;
  bool relu;

  TRIPHASE_HOST_DEVICE void operator()(int64_t i) const {
    const float sum = x[i] + bias[i / inner % channels];
    y[i] = relu && !(sum > 0) ? 0.0f : sum;
  }
};

// Where element `index` of a row-major [N, channels, inner] lies as [N, inner, channels]. With the two exchanged it is
// the way back.
TRIPHASE_HOST_DEVICE inline int64_t channels_last(int64_t index, int64_t channels, int64_t inner) {
  const int64_t n = index / inner / channels;
  return (n * inner + index % inner) * channels + index / inner % channels;
}

// y = x in the other order of channels.   x: [N, inner, channels]  y: [N, channels, inner]
template <class T>
struct Transpose {
  const T* x;
  T* y;
  int64_t channels, inner;

  TRIPHASE_HOST_DEVICE void operator()(int64_t i) const { y[i] = x[channels_last(i, channels, inner)]; }
};

// A window that slides over planes of `inner` channels side by side.   x: [planes, in[0], in[1], inner]  y: [planes,
// out[0], out[1], inner]
struct Pooling {
  int64_t in[2], out[2], kernel[2], stride[2], padding[2];
  int64_t inner;

  struct Range {
    int64_t begin, end;
  };
  // The taps of output o along dimension d that lie within x.
  TRIPHASE_HOST_DEVICE Range taps(int d, int64_t o) const {
    const int64_t first = o * stride[d] - padding[d];
    return {first < 0 ? -first : 0, kernel[d] < in[d] - first ? kernel[d] : in[d] - first};
  }
  // The outputs whose window holds input i along dimension d.
  TRIPHASE_HOST_DEVICE Range windows(int d, int64_t i) const {
    const int64_t last = (i + padding[d]) / stride[d];
    const int64_t before = i + padding[d] - kernel[d];  // the last start of a window that ends before i
    return {before < 0 ? 0 : before / stride[d] + 1, last < out[d] ? last + 1 : out[d]};
  }

  // Where element i of planes of so many rows and columns is.
  struct Place {
    int64_t plane, row, column, channel;
  };
  TRIPHASE_HOST_DEVICE Place place(int64_t i, const int64_t (&size)[2]) const {
    const int64_t at = i / inner;
    return {at / size[1] / size[0], at / size[1] % size[0], at % size[1], i % inner};
  }

  // Calls f(element of x, its tap, row-major in the window) for every tap of y's element i that lies within x, in
  // order.
  template <class F>
  TRIPHASE_HOST_DEVICE void for_each_tap(int64_t i, F f) const {
    const Place y = place(i, out);
    const Range rows = taps(0, y.row);
    const Range columns = taps(1, y.column);
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      for (int64_t c = columns.begin; c < columns.end; ++c) {
        const int64_t row = y.row * stride[0] - padding[0] + r;
        const int64_t column = y.column * stride[1] - padding[1] + c;
        f(((y.plane * in[0] + row) * in[1] + column) * inner + y.channel, r * kernel[1] + c);
      }
    }
  }
  // Calls f(element of y, the tap) for every window that holds x's element i, and the tap that it is there.
  template <class F>
  TRIPHASE_HOST_DEVICE void for_each_window(int64_t i, F f) const {
    const Place x = place(i, in);
    const Range rows = windows(0, x.row);
    const Range columns = windows(1, x.column);
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      for (int64_t c = columns.begin; c < columns.end; ++c) {
        f(((x.plane * out[0] + r) * out[1] + c) * inner + x.channel,
          (x.row + padding[0] - r * stride[0]) * kernel[1] + x.column + padding[1] - c * stride[1]);
      }
    }
  }
  // How many taps of y's element i lie within x.
  TRIPHASE_HOST_DEVICE int64_t taps_within(int64_t i) const {
    const Place y = place(i, out);
    const Range rows = taps(0, y.row);
    const Range columns = taps(1, y.column);
    return (rows.end - rows.begin) * (columns.end - columns.begin);
  }
};

// y = the largest of a window's taps within x, tap = the first of equals, row-major in the window.
template <class T, class Tap>
struct MaxPool {
  Pooling pool;
  const T* x;
  T* y;
  Tap* tap;

  TRIPHASE_HOST_DEVICE void operator()(int64_t i) const {
    float best = 0;
    int64_t best_tap = -1;
    pool.for_each_tap(i, [&](int64_t from, int64_t own) {
      if (best_tap >= 0 && !(x[from] > best)) return;
      best = x[from];
      best_tap = own;
    });
    y[i] = best;
    tap[i] = static_cast<Tap>(best_tap);
  }
};

// dx = the sum of dy of the windows whose tap it is.
template <class T, class Tap>
struct MaxPoolBackward {
  Pooling pool;
  const T* dy;
  const Tap* tap;
  T* dx;

  TRIPHASE_HOST_DEVICE void operator()(int64_t i) const {
    float sum = 0;
    pool.for_each_window(i, [&](int64_t from, int64_t own) {
      if (static_cast<int64_t>(tap[from]) == own) sum += dy[from];
    });
    dx[i] = sum;
  }
};

// y = the sum of a window's taps within x over their number, or over the kernel's area where padding counts.
template <class T>
struct AveragePool {
  Pooling pool;
  bool count_padding;
  const T* x;
  T* y;

  TRIPHASE_HOST_DEVICE static float count(const Pooling& pool, bool count_padding, int64_t i) {
    return static_cast<float>(count_padding ? pool.kernel[0] * pool.kernel[1] : pool.taps_within(i));
  }

  TRIPHASE_HOST_DEVICE void operator()(int64_t i) const {
    float sum = 0;
    pool.for_each_tap(i, [&](int64_t from, int64_t) { sum += x[from]; });
    y[i] = sum / count(pool, count_padding, i);
  }
};

// dx = the sum over the windows that hold it of dy over their number.
template <class T>
struct AveragePoolBackward {
  Pooling pool;
  bool count_padding;
  const T* dy;
  T* dx;

  TRIPHASE_HOST_DEVICE void operator()(int64_t i) const {
    float sum = 0;
    pool.for_each_window(
        i, [&](int64_t from, int64_t) { sum += dy[from] / AveragePool<T>::count(pool, count_padding, from); });
    dx[i] = sum;
  }
};

// y = (x - mean) / sqrt(variance + epsilon) gamma + beta, each by channel.   x, y: [N, channels, inner]
template <class T>
struct Normalise {
  const T* x;
  const float* gamma;
  const float* beta;
  const float* mean;
  const float* variance;
  T* y;
  int64_t channels, inner;
  float epsilon;

  TRIPHASE_HOST_DEVICE void operator()(int64_t i) const {
    const int64_t c = i / inner % channels;
    y[i] = (x[i] - mean[c]) / std::sqrt(variance[c] + epsilon) * gamma[c] + beta[c];
  }
};

// dx = gamma inverse (dy - dbeta / count - (x - mean) inverse dgamma / count), inverse = 1 / sqrt(variance + epsilon),
// count the values of a channel.
template <class T>
struct NormaliseBackward {
  const T* dy;
  const T* x;
  const float* gamma;
  const float* mean;
  const float* variance;
  const float* dgamma;
  const float* dbeta;
  T* dx;
  int64_t channels, inner;
  float epsilon, count;

  TRIPHASE_HOST_DEVICE void operator()(int64_t i) const {
    const int64_t c = i / inner % channels;
    const float inverse = 1 / std::sqrt(variance[c] + epsilon);
    dx[i] = gamma[c] * inverse * (dy[i] - dbeta[c] / count - (x[i] - mean[c]) * inverse * (dgamma[c] / count));
  }
};

// running = keep running + take current
struct Blend {
  float* running;
  const float* current;
  float keep, take;

  TRIPHASE_HOST_DEVICE void operator()(int64_t i) const { running[i] = keep * running[i] + take * current[i]; }
};

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
  int64_t classes;

  TRIPHASE_HOST_DEVICE void operator()(int64_t i) const {
    const Exponentials& row = rows[i / classes];
    probabilities[i] = std::exp(x[i] - row.largest) / row.sum;
  }
};

// dx = (probabilities - onehot(target)) scale
template <class T>
struct SoftmaxCrossEntropyBackward {
  const T* probabilities;
  const int32_t* target;
  T* dx;
  int64_t classes;
  float scale;

  TRIPHASE_HOST_DEVICE void operator()(int64_t i) const {
    dx[i] = (probabilities[i] - (i % classes == target[i / classes] ? 1.0f : 0.0f)) * scale;
  }
};

// y = x scale
template <class T>
struct Scale {
  const T* x;
  T* y;
  float scale;

  TRIPHASE_HOST_DEVICE void operator()(int64_t i) const { y[i] = x[i] * scale; }
};

// copy = x
template <class T>
struct Convert {
  const float* x;
  T* copy;

  TRIPHASE_HOST_DEVICE void operator()(int64_t i) const { copy[i] = x[i]; }
};

// One step of an optimizer on several parameters at once, as if their elements lay in a row; T is what their gradients
// are kept in.
template <class Rule, class T>
struct Update {
  static constexpr int kMostParts = 32;
  struct Part {
    float* w;
    const T* gradient;
    float* states[2];
    T* copy;      // of w, as layers read it; null where they read w
    int64_t end;  // of its elements in the row
  };
  Rule rule;
  const float* scalars;
  int count;
  Part parts[kMostParts];

  TRIPHASE_HOST_DEVICE void operator()(int64_t i) const {
    int p = 0;
    while (i >= parts[p].end) ++p;
    const Part& part = parts[p];
    const int64_t element = p > 0 ? i - parts[p - 1].end : i;
    float state[2] = {0, 0};
    for (int s = 0; s < Rule::kStates; ++s) state[s] = part.states[s][element];
    rule.step(part.w[element], static_cast<float>(part.gradient[element]), state, scalars);
    for (int s = 0; s < Rule::kStates; ++s) part.states[s][element] = state[s];
    if (part.copy != nullptr) part.copy[element] = part.w[element];
  }
};

// --- Sums of many terms -------------------------------------------------------------------------

// Where term t of channel c lies in an [N, channels, inner] tensor.
TRIPHASE_HOST_DEVICE inline int64_t in_channel(int64_t c, int64_t t, int64_t channels, int64_t inner) {
  return (t / inner * channels + c) * inner + t % inner;
}

// gradient[c] = sum of dy over all but the channels.   segments: channels  terms: N inner
template <class T>
struct BiasGradient {
  const T* dy;
  T* gradient;
  int64_t channels, inner;

  using Sum = float;
  bool adjacent() const { return inner == 1; }
  TRIPHASE_HOST_DEVICE static Sum nothing() { return 0; }
  TRIPHASE_HOST_DEVICE Sum term(int64_t c, int64_t t) const { return dy[in_channel(c, t, channels, inner)]; }
  TRIPHASE_HOST_DEVICE static Sum merge(Sum a, Sum b) { return a + b; }
  TRIPHASE_HOST_DEVICE void finish(int64_t c, Sum sum) const { gradient[c] = sum; }
};

// Mean and biased variance by channel; merged as Chan, Golub and LeVeque (1979).   segments: channels  terms: N inner
template <class T>
struct Moments {
  const T* x;
  float* mean;
  float* variance;
  int64_t channels, inner;

  struct Sum {
    float count, mean, squares;  // of differences from the mean
  };
  bool adjacent() const { return inner == 1; }
  TRIPHASE_HOST_DEVICE static Sum nothing() { return {0, 0, 0}; }
  TRIPHASE_HOST_DEVICE Sum term(int64_t c, int64_t t) const { return {1, x[in_channel(c, t, channels, inner)], 0}; }
  TRIPHASE_HOST_DEVICE static Sum merge(Sum a, Sum b) {
    const float count = a.count + b.count;
    if (count == 0) return a;
    const float difference = b.mean - a.mean;
    const float share = b.count / count;
    return {count, a.mean + difference * share, a.squares + b.squares + difference * difference * a.count * share};
  }
  TRIPHASE_HOST_DEVICE void finish(int64_t c, Sum sum) const {
    mean[c] = sum.mean;
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
  int64_t channels, inner;
  float epsilon;

  struct Sum {
    float dy, product;
  };
  bool adjacent() const { return inner == 1; }
  TRIPHASE_HOST_DEVICE static Sum nothing() { return {0, 0}; }
  TRIPHASE_HOST_DEVICE Sum term(int64_t c, int64_t t) const {
    const int64_t i = in_channel(c, t, channels, inner);
    return {dy[i], dy[i] * (x[i] - mean[c])};
  }
  TRIPHASE_HOST_DEVICE static Sum merge(Sum a, Sum b) { return {a.dy + b.dy, a.product + b.product}; }
  TRIPHASE_HOST_DEVICE void finish(int64_t c, Sum sum) const {
    dbeta[c] = sum.dy;
    dgamma[c] = sum.product / std::sqrt(variance[c] + epsilon);
  }
};

// rows[n] of x[n, :].   segments: rows  terms: classes
template <class T>
struct SumOfExponentials {
  const T* x;
  Exponentials* rows;
  int64_t classes;

  using Sum = Exponentials;
  bool adjacent() const { return false; }
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
  bool adjacent() const { return false; }
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
  bool adjacent() const { return false; }
  TRIPHASE_HOST_DEVICE static Sum nothing() { return 0; }
  TRIPHASE_HOST_DEVICE Sum term(int64_t, int64_t t) const { return x[t] * x[t]; }
  TRIPHASE_HOST_DEVICE static Sum merge(Sum a, Sum b) { return a + b; }
  TRIPHASE_HOST_DEVICE void finish(int64_t, Sum sum) const { *loss = sum / static_cast<float>(count); }
};

// --- Few segments of many terms -----------------------------------------------------------------

// A reduction's first half: segment s sums the terms [p length, (p + 1) length) of its segment s - p segments, where p
// = s / segments.
template <class Kernel>
struct InParts {
  Kernel kernel;
  typename Kernel::Sum* parts;
  int64_t segments, terms, length;

  using Sum = typename Kernel::Sum;
  TRIPHASE_HOST_DEVICE static Sum nothing() { return Kernel::nothing(); }
  TRIPHASE_HOST_DEVICE Sum term(int64_t s, int64_t t) const {
    const int64_t i = s / segments * length + t;
    return i < terms ? kernel.term(s % segments, i) : nothing();
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

}  // namespace kernels

// All of them, for every T and every optimizer.
template <class... Lists>
struct Joined;
template <class... Kernel>
struct Joined<std::variant<Kernel...>> {
  using Kernels = std::variant<Kernel...>;
};
template <class... A, class... B, class... Lists>
struct Joined<std::variant<A...>, std::variant<B...>, Lists...> : Joined<std::variant<A..., B...>, Lists...> {};

template <class T, class Rules>
struct ElementKernels;
template <class T, class... Rule>
struct ElementKernels<T, std::variant<Rule...>> {
  using Kernels =
      std::variant<kernels::Relu<T>, kernels::ReluBackward<T>, kernels::Add<T>, kernels::AddBias<T>,
                   kernels::MaxPool<T, uint8_t>, kernels::MaxPool<T, int32_t>, kernels::MaxPoolBackward<T, uint8_t>,
                   kernels::MaxPoolBackward<T, int32_t>, kernels::AveragePool<T>, kernels::AveragePoolBackward<T>,
                   kernels::Normalise<T>, kernels::NormaliseBackward<T>, kernels::Probabilities<T>,
                   kernels::SoftmaxCrossEntropyBackward<T>, kernels::Scale<T>, kernels::Convert<T>,
                   kernels::Transpose<T>, kernels::Update<Rule, T>...>;
};
template <class T>
using ElementKernelsOf = typename ElementKernels<T, Optimizer>::Kernels;
using ElementKernel = Joined<ElementKernelsOf<float>, ElementKernelsOf<BF16>, ElementKernelsOf<F16>,
                             std::variant<kernels::Blend>>::Kernels;

template <class T>
using ReductionKernelsOf =
    std::variant<kernels::BiasGradient<T>, kernels::Moments<T>, kernels::NormaliseGradients<T>,
                 kernels::SumOfExponentials<T>, kernels::CrossEntropy<T>, kernels::MeanSquare<T>>;
using ReductionKernel = Joined<ReductionKernelsOf<float>, ReductionKernelsOf<BF16>, ReductionKernelsOf<F16>>::Kernels;

// Threads of a block that reduces, on the GPU as on the host. A block sums one segment, each thread every
// kReducers-th term, then pairs of threads; or kAdjacent segments, whose threads then read side by side.
inline constexpr int kReducers = 256;
inline constexpr int kAdjacent = 32;

// Room for the sums of parts.
inline constexpr int64_t kPartsBytes = 1 << 20;

// Runs a reduction by calls of run(kernel, segments, terms, adjacent): in parts, and then over the parts, where there
// would be fewer than `blocks` blocks otherwise and every thread has terms enough.
template <class Kernel, class Run>
void reduce_in_parts(const Kernel& kernel, int64_t segments, int64_t terms, int64_t blocks, std::byte* space, Run run) {
  using Sum = typename Kernel::Sum;
  constexpr int64_t kTermsWorthAThread = 2;
  const int64_t together = kernel.adjacent() ? kAdjacent : 1;
  const int64_t blocks_alone = (segments + together - 1) / together;
  const int64_t most = std::min(terms / (kReducers / together * kTermsWorthAThread),
                                kPartsBytes / static_cast<int64_t>(sizeof(Sum)) / segments);
  const int64_t parts = std::min((blocks + blocks_alone - 1) / blocks_alone, most);
  if (parts < 2) return run(kernel, segments, terms, kernel.adjacent());
  auto* sums = reinterpret_cast<Sum*>(space);
  const int64_t length = (terms + parts - 1) / parts;
  run(kernels::InParts<Kernel>{kernel, sums, segments, terms, length}, segments * parts, length, kernel.adjacent());
  run(kernels::OfParts<Kernel>{kernel, sums, segments}, segments, parts, true);
}

}  // namespace triphase::cuda
