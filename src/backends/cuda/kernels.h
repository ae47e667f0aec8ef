// SPDX-License-Identifier: Apache-2.0
// The own kernels: what neither cuBLASLt nor cuDNN is asked for. Each is a struct of addresses and sizes, written once
// for the GPU and for the host that stands in for it in tests.
//
// Element kernels compute element i by value(i) and write it by put(i, value). Elements do not depend on each other, so
// that the result may take the place of an operand of the same size, and a thread may compute several before it writes
// the first: their reads are then on the way at once. Gradients of windows gather, so that nothing is added atomically
// and each element is written once. Reduction kernels sum terms of a segment in any order by merge(), then finish() it;
// where the same terms of neighbouring segments are adjacent in memory they say so, by a constant if it is always the
// same.
//
// T is what activations and their gradients are kept in; all is computed, and parameters are kept, in f32. Index is
// what elements are counted in: 32 bits where that suffices, since GPUs divide them so much faster.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <variant>

#include "core/divisor.h"
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

  TRIPHASE_HOST_DEVICE float value(int64_t i) const { return x[i] > 0.0f ? x[i] : T(0.0f); }
  TRIPHASE_HOST_DEVICE void put(int64_t i, float value) const { y[i] = value; }
};

// dx = dy where y > 0, else 0
template <class T>
struct ReluBackward {
  const T* dy;
  const T* y;
  T* dx;

  TRIPHASE_HOST_DEVICE float value(int64_t i) const { return y[i] > 0.0f ? dy[i] : T(0.0f); }
  TRIPHASE_HOST_DEVICE void put(int64_t i, float value) const { dx[i] = value; }
};

// y = a + b
template <class T>
struct Add {
  const T* a;
  const T* b;
  T* y;

  TRIPHASE_HOST_DEVICE float value(int64_t i) const { return a[i] + b[i]; }
  TRIPHASE_HOST_DEVICE void put(int64_t i, float value) const { y[i] = value; }
};

// y = x + bias[c], and relu where asked.   x, y: [N, channels, inner...]
template <class T>
struct AddBias {
  const T* x;
  const T* bias;
  T* y;
  Divisor channels, inner;
  bool relu;

  template <class Index>
  TRIPHASE_HOST_DEVICE float value(Index i) const {
    const float sum = x[i] + bias[i / inner % channels];
    return relu && !(sum > 0) ? 0.0f : sum;
  }
  TRIPHASE_HOST_DEVICE void put(int64_t i, float value) const { y[i] = value; }
};

// Where element `index` of a row-major [N, channels, inner] lies as [N, inner, channels]. With the two exchanged it is
// the way back.
template <class Index, class Size>
TRIPHASE_HOST_DEVICE Index channels_last(Index index, const Size& channels, const Size& inner) {
  const Index row = index / inner;
  return (row / channels * inner + index % inner) * channels + row % channels;
}

// y = x in the other order of channels.   x: [N, inner, channels]  y: [N, channels, inner]
template <class T>
struct Transpose {
  const T* x;
  T* y;
  Divisor channels, inner;

  template <class Index>
  TRIPHASE_HOST_DEVICE float value(Index i) const {
    return x[channels_last(i, channels, inner)];
  }
  TRIPHASE_HOST_DEVICE void put(int64_t i, float value) const { y[i] = value; }
};

// Neighbours in memory that a thread reads or writes at once.
template <class T, int kWidth>
struct alignas(sizeof(T) * kWidth) Pack {
  T values[kWidth];

  template <class To>
  TRIPHASE_HOST_DEVICE Pack<To, kWidth> as() const {
    Pack<To, kWidth> result;
    TRIPHASE_UNROLL
    for (int n = 0; n < kWidth; ++n) result.values[n] = values[n];
    return result;
  }
  template <class Other>
  TRIPHASE_HOST_DEVICE Pack& operator+=(const Pack<Other, kWidth>& other) {
    TRIPHASE_UNROLL
    for (int n = 0; n < kWidth; ++n) values[n] += other.values[n];
    return *this;
  }
};

// A window that slides over planes of `inner` channels side by side.   x: [planes, in[0], in[1], inner]  y: [planes,
// out[0], out[1], inner]
struct Pooling {
  Divisor in[2], out[2];
  int64_t kernel[2];
  Divisor stride[2];
  int64_t padding[2];
  Divisor inner;
  int64_t planes;

  template <class Index>
  struct Range {
    Index begin, end;
  };
  // The taps of output o along dimension d that lie within x.
  template <class Index>
  TRIPHASE_HOST_DEVICE Range<Index> taps(int d, Index o) const {
    const auto first = static_cast<Index>(o * stride[d] - padding[d]);
    const auto behind = static_cast<Index>(in[d] - first);
    return {first < 0 ? -first : 0, kernel[d] < behind ? static_cast<Index>(kernel[d]) : behind};
  }
  // The outputs whose window holds input i along dimension d.
  template <class Index>
  TRIPHASE_HOST_DEVICE Range<Index> windows(int d, Index i) const {
    const auto position = static_cast<Index>(i + padding[d]);
    const auto before = static_cast<Index>(position - kernel[d]);  // the last start of a window that ends before i
    const Index last = position / stride[d];
    const auto end = static_cast<Index>(out[d]);
    return {before < 0 ? 0 : before / stride[d] + 1, last < end ? last + 1 : end};
  }

  // Where element i of planes of so many rows and columns is.
  template <class Index>
  struct Place {
    Index plane, row, column, channel;
  };
  template <class Index>
  TRIPHASE_HOST_DEVICE Place<Index> place(Index i, const Divisor (&size)[2]) const {
    const Index at = i / inner;
    const Index line = at / size[1];
    return {line / size[0], line % size[0], at % size[1], i % inner};
  }
  // And the way back.
  template <class Index>
  TRIPHASE_HOST_DEVICE Index index(const Place<Index>& at, const Divisor (&size)[2]) const {
    return ((at.plane * size[0] + at.row) * size[1] + at.column) * inner + at.channel;
  }

  // The element of x at the corner of the window of y's element there, if that lies within x.
  template <class Index>
  TRIPHASE_HOST_DEVICE Index corner(const Place<Index>& y) const {
    return index<Index>({y.plane, y.row * stride[0] - static_cast<Index>(padding[0]),
                         y.column * stride[1] - static_cast<Index>(padding[1]), y.channel},
                        in);
  }
  // Calls f(element of x, its tap, row-major in the window) for every tap of y's element there that lies within x, in
  // order.
  template <class Index, class F>
  TRIPHASE_HOST_DEVICE void for_each_tap(const Place<Index>& y, F f) const {
    const Range<Index> rows = taps(0, y.row);
    const Range<Index> columns = taps(1, y.column);
    const Index row = y.row * stride[0] - static_cast<Index>(padding[0]);  // of the window's corner
    const Index column = y.column * stride[1] - static_cast<Index>(padding[1]);
    for (Index r = rows.begin; r < rows.end; ++r) {
      const Index line = index<Index>({y.plane, row + r, column, y.channel}, in);
      TRIPHASE_NO_UNROLL
      for (Index c = columns.begin; c < columns.end; ++c) f(line + c * inner, r * static_cast<Index>(kernel[1]) + c);
    }
  }
  // Calls f(element of y, its row and column, the tap) for every window that holds x's element i, and the tap that it
  // is there.
  template <class Index, class F>
  TRIPHASE_HOST_DEVICE void for_each_window(Index i, F f) const {
    const Place<Index> x = place(i, in);
    const Range<Index> rows = windows(0, x.row);
    const Range<Index> columns = windows(1, x.column);
    const Index row = x.row + static_cast<Index>(padding[0]);
    const Index column = x.column + static_cast<Index>(padding[1]);
    for (Index r = rows.begin; r < rows.end; ++r) {
      const Index line = index<Index>({x.plane, r, 0, x.channel}, out);
      const Index tap = (row - r * stride[0]) * static_cast<Index>(kernel[1]) + column;
      TRIPHASE_NO_UNROLL
      for (Index c = columns.begin; c < columns.end; ++c) f(line + c * inner, r, c, tap - c * stride[1]);
    }
  }
  // How many taps lie within x of the window of y's row and column.
  template <class Index>
  TRIPHASE_HOST_DEVICE Index taps_within(Index row, Index column) const {
    const Range<Index> rows = taps(0, row);
    const Range<Index> columns = taps(1, column);
    return (rows.end - rows.begin) * (columns.end - columns.begin);
  }
  // No number that comes up is larger: neither along a dimension, nor of an element.
  int64_t most() const {
    const auto size = [&](const Divisor(&sizes)[2]) { return int64_t{sizes[0]} * int64_t{sizes[1]}; };
    return std::max({in[0] + 2 * padding[0] + kernel[0], in[1] + 2 * padding[1] + kernel[1],
                     planes * std::max(size(in), size(out)) * int64_t{inner}});
  }
};

// Channels side by side that a thread computes at once where it can: what does not depend on them is computed once.
inline constexpr int kChannelsTogether = 4;

// The kernels of pools count in packs of kWidth channels.

// y = the largest of a window's taps within x, tap = the first of equals, row-major in the window. With kSide the
// kernel is kSide x kSide, and the taps of a window that lies within x are read all at once.
template <class T, class Tap, int kWidth, int kSide = 0>
struct MaxPool {
  Pooling pool;
  const Pack<T, kWidth>* x;
  Pack<T, kWidth>* y;
  Pack<Tap, kWidth>* tap;

  struct Largest {
    float x[kWidth];
    int32_t tap[kWidth];

    TRIPHASE_HOST_DEVICE void take(const Pack<T, kWidth>& taken, int32_t from) {
      TRIPHASE_UNROLL
      for (int c = 0; c < kWidth; ++c) {
        const float value = taken.values[c];
        const bool larger = value > x[c];
        x[c] = larger ? value : x[c];
        tap[c] = larger ? from : tap[c];
      }
    }
  };
  template <class Index>
  TRIPHASE_HOST_DEVICE Largest value(Index i) const {
    const Pooling::Place<Index> at = pool.place(i, pool.out);
    const auto rows = pool.taps(0, at.row);
    const auto columns = pool.taps(1, at.column);
    const auto first = static_cast<int32_t>(rows.begin * static_cast<Index>(pool.kernel[1]) + columns.begin);
    Largest best;
    TRIPHASE_UNROLL
    for (int c = 0; c < kWidth; ++c) {
      best.x[c] = -INFINITY;
      best.tap[c] = first;
    }
    if constexpr (kSide > 0) {
      if (rows.end - rows.begin == kSide && columns.end - columns.begin == kSide) {
        const Pack<T, kWidth>* corner = x + pool.corner(at);
        const Index line = static_cast<Index>(pool.in[1]) * static_cast<Index>(pool.inner);
        Pack<T, kWidth> taken[kSide * kSide];
        TRIPHASE_UNROLL
        for (int t = 0; t < kSide * kSide; ++t) taken[t] = corner[t / kSide * line + t % kSide * pool.inner];
        TRIPHASE_UNROLL
        for (int t = 0; t < kSide * kSide; ++t) best.take(taken[t], t);
        return best;
      }
    }
    pool.for_each_tap(at, [&](Index from, Index own) { best.take(x[from], static_cast<int32_t>(own)); });
    return best;
  }
  TRIPHASE_HOST_DEVICE void put(int64_t i, const Largest& best) const {
    Pack<T, kWidth> largest;
    Pack<Tap, kWidth> taps;
    TRIPHASE_UNROLL
    for (int c = 0; c < kWidth; ++c) {
      largest.values[c] = best.x[c];
      taps.values[c] = static_cast<Tap>(best.tap[c]);
    }
    y[i] = largest;
    tap[i] = taps;
  }
};

// dx = the sum of dy of the windows whose tap it is.
template <class T, class Tap, int kWidth>
struct MaxPoolBackward {
  Pooling pool;
  const Pack<T, kWidth>* dy;
  const Pack<Tap, kWidth>* tap;
  Pack<T, kWidth>* dx;

  template <class Index>
  TRIPHASE_HOST_DEVICE Pack<float, kWidth> value(Index i) const {
    Pack<float, kWidth> sum{};
    pool.for_each_window(i, [&](Index from, Index, Index, Index own) {
      const Pack<T, kWidth> gradient = dy[from];
      const Pack<Tap, kWidth> taps = tap[from];
      TRIPHASE_UNROLL
      for (int c = 0; c < kWidth; ++c) {
        const float more = gradient.values[c];
        sum.values[c] += static_cast<Index>(taps.values[c]) == own ? more : 0.0f;
      }
    });
    return sum;
  }
  TRIPHASE_HOST_DEVICE void put(int64_t i, const Pack<float, kWidth>& sum) const { dx[i] = sum.template as<T>(); }
};

// Blocks of two by two inputs that begin where windows of stride two do, at every second place of the padded input.
inline int64_t blocks_along(const Pooling& pool, int d) {
  return (pool.in[d] + pool.padding[d] - 1) / 2 - pool.padding[d] / 2 + 1;
}

// The same for strides of two and at most four taps along each dimension: such a block lies in two by two windows at
// most, which a thread reads once for all of it.
template <class T, class Tap, int kWidth>
struct MaxPoolBackwardInBlocks {
  Pooling pool;
  Divisor blocks[2];  // blocks_along() each dimension
  const Pack<T, kWidth>* dy;
  const Pack<Tap, kWidth>* tap;
  Pack<T, kWidth>* dx;

  struct Sums {
    Pack<float, kWidth> of[2][2];
  };
  template <class Index>
  TRIPHASE_HOST_DEVICE Pooling::Place<Index> block(Index i) const {
    Pooling::Place<Index> at = pool.place(i, blocks);
    at.row += static_cast<Index>(pool.padding[0] / 2);
    at.column += static_cast<Index>(pool.padding[1] / 2);
    return at;
  }
  template <class Index>
  TRIPHASE_HOST_DEVICE Sums value(Index i) const {
    const Pooling::Place<Index> at = block(i);
    constexpr Index kNone = -1;
    constexpr Index kBeyond = -2;  // a window's end
    const auto rows = static_cast<Index>(pool.kernel[0]);
    const auto columns = static_cast<Index>(pool.kernel[1]);
    Sums sums{};
    TRIPHASE_UNROLL
    for (Index r = 0; r < 2; ++r) {
      TRIPHASE_UNROLL
      for (Index c = 0; c < 2; ++c) {
        // The window that begins so many blocks before this one. Where there is none the first is read, and is no
        // input's: all reads are on their way at once.
        const Index row = at.row - r;
        const Index column = at.column - c;
        const bool exists = row >= 0 && column >= 0 && row < static_cast<Index>(pool.out[0]) &&
                            column < static_cast<Index>(pool.out[1]);
        const Index from = exists ? pool.index<Index>({at.plane, row, column, at.channel}, pool.out) : 0;
        const Pack<T, kWidth> gradient = dy[from];
        const Pack<Tap, kWidth> taps = tap[from];
        float more[kWidth];
        Index largest[kWidth];
        TRIPHASE_UNROLL
        for (int n = 0; n < kWidth; ++n) {
          more[n] = gradient.values[n];
          largest[n] = exists ? static_cast<Index>(taps.values[n]) : kNone;
        }
        TRIPHASE_UNROLL
        for (Index down = 0; down < 2; ++down) {
          TRIPHASE_UNROLL
          for (Index right = 0; right < 2; ++right) {
            const Index tap_row = 2 * r + down;
            const Index tap_column = 2 * c + right;
            const Index own = tap_row < rows && tap_column < columns ? tap_row * columns + tap_column : kBeyond;
            TRIPHASE_UNROLL
            for (int n = 0; n < kWidth; ++n) {
              sums.of[down][right].values[n] += largest[n] == own ? more[n] : 0.0f;
            }
          }
        }
      }
    }
    return sums;
  }
  template <class Index>
  TRIPHASE_HOST_DEVICE void put(Index i, const Sums& sums) const {
    const Pooling::Place<Index> at = block(i);
    TRIPHASE_UNROLL
    for (Index down = 0; down < 2; ++down) {
      TRIPHASE_UNROLL
      for (Index right = 0; right < 2; ++right) {
        const Index row = 2 * at.row + down - static_cast<Index>(pool.padding[0]);
        const Index column = 2 * at.column + right - static_cast<Index>(pool.padding[1]);
        const bool within =
            row >= 0 && column >= 0 && row < static_cast<Index>(pool.in[0]) && column < static_cast<Index>(pool.in[1]);
        if (within)
          dx[pool.index<Index>({at.plane, row, column, at.channel}, pool.in)] = sums.of[down][right].template as<T>();
      }
    }
  }
};

// y = the sum of a window's taps within x over their number, or over the kernel's area where padding counts.
template <class T, int kWidth>
struct AveragePool {
  Pooling pool;
  bool count_padding;
  const Pack<T, kWidth>* x;
  Pack<T, kWidth>* y;

  template <class Index>
  TRIPHASE_HOST_DEVICE static float count(const Pooling& pool, bool count_padding, Index row, Index column) {
    return static_cast<float>(count_padding ? pool.kernel[0] * pool.kernel[1] : pool.taps_within(row, column));
  }

  template <class Index>
  TRIPHASE_HOST_DEVICE Pack<float, kWidth> value(Index i) const {
    Pack<float, kWidth> sum{};
    const Pooling::Place<Index> place = pool.place(i, pool.out);
    pool.for_each_tap(place, [&](Index from, Index) { sum += x[from]; });
    const float divisor = count(pool, count_padding, place.row, place.column);
    TRIPHASE_UNROLL
    for (int c = 0; c < kWidth; ++c) sum.values[c] /= divisor;
    return sum;
  }
  TRIPHASE_HOST_DEVICE void put(int64_t i, const Pack<float, kWidth>& mean) const { y[i] = mean.template as<T>(); }
};

// dx = the sum over the windows that hold it of dy over their number.
template <class T, int kWidth>
struct AveragePoolBackward {
  Pooling pool;
  bool count_padding;
  const Pack<T, kWidth>* dy;
  Pack<T, kWidth>* dx;

  template <class Index>
  TRIPHASE_HOST_DEVICE Pack<float, kWidth> value(Index i) const {
    Pack<float, kWidth> sum{};
    pool.for_each_window(i, [&](Index from, Index row, Index column, Index) {
      const float divisor = AveragePool<T, kWidth>::count(pool, count_padding, row, column);
      const Pack<T, kWidth> gradient = dy[from];
      TRIPHASE_UNROLL
      for (int c = 0; c < kWidth; ++c) sum.values[c] += gradient.values[c] / divisor;
    });
    return sum;
  }
  TRIPHASE_HOST_DEVICE void put(int64_t i, const Pack<float, kWidth>& sum) const { dx[i] = sum.template as<T>(); }
};

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

// y = x scale
template <class T>
struct Scale {
  const T* x;
  T* y;
  float scale;

  TRIPHASE_HOST_DEVICE float value(int64_t i) const { return x[i] * scale; }
  TRIPHASE_HOST_DEVICE void put(int64_t i, float value) const { y[i] = value; }
};

// copy = x
template <class T>
struct Convert {
  const float* x;
  T* copy;

  TRIPHASE_HOST_DEVICE float value(int64_t i) const { return x[i]; }
  TRIPHASE_HOST_DEVICE void put(int64_t i, float value) const { copy[i] = value; }
};

// One step of an optimizer on several parameters at once, as if their elements lay in a row; T is what their gradients
// are kept in, which `unscale` takes the loss's scale from. Reads by value(), computes by put(): arithmetic in between
// would wait for each element's operands.
template <class Rule, class T>
struct Update {
  static constexpr int kMostParts = 32;
  struct Part {
    float* w;
    const T* gradient;
    float* states[kMostStates];
    T* copy;      // of w, as layers read it; null where they read w
    int64_t end;  // of its elements in the row
  };
  Rule rule;
  float unscale;
  const float* scalars;
  int count;
  Part parts[kMostParts];

  static constexpr int kScalars = static_cast<int>(std::tuple_size_v<decltype(Rule().scalars(1))>);
  template <class Index>
  struct Operands {
    int part;
    Index element;  // of the part
    float w, gradient;
    float states[kMostStates];
    float scalars[kScalars];
  };
  template <class Index>
  TRIPHASE_HOST_DEVICE Operands<Index> value(Index i) const {
    int p = 0;  // the first part that ends behind i, halving the range that it is in
    if (count > 1) {
      TRIPHASE_UNROLL
      for (int step = kMostParts / 2; step > 0; step /= 2) {
        if (p + step < count && i >= static_cast<Index>(parts[p + step - 1].end)) p += step;
      }
    }
    const Index begin = p == 0 ? 0 : static_cast<Index>(parts[p - 1].end);
    const Part& part = parts[p];
    const Index element = i - begin;
    Operands<Index> read{p, element, part.w[element], part.gradient[element], {}, {}};
    for (int s = 0; s < Rule::kStates; ++s) read.states[s] = part.states[s][element];
    for (int s = 0; s < kScalars; ++s) read.scalars[s] = scalars[s];
    return read;
  }
  template <class Index>
  TRIPHASE_HOST_DEVICE void put(Index, Operands<Index> read) const {
    rule.step(read.w, read.gradient * unscale, read.states, read.scalars);
    const Part& part = parts[read.part];
    part.w[read.element] = read.w;
    for (int s = 0; s < Rule::kStates; ++s) part.states[s][read.element] = read.states[s];
    if (part.copy != nullptr) part.copy[read.element] = read.w;
  }
};

// --- Sums of many terms -------------------------------------------------------------------------
//
// A kernel has term(segment, t), which is merged into a thread's sum, or add_term(), which adds it there.

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

// y = the mean of a plane.   x: [N, channels, area], or [N, area, channels] where `inner` channels are side by side
// segments: N channels  terms: area
template <class T>
struct PlaneMean {
  const T* x;
  T* y;
  Divisor inner;
  int64_t area;

  using Sum = float;
  bool adjacent() const { return inner > 1 || area < kFewTerms; }
  TRIPHASE_HOST_DEVICE static Sum nothing() { return 0; }
  template <class Index>
  TRIPHASE_HOST_DEVICE Sum term(Index plane, Index t) const {
    return x[(plane / inner * static_cast<Index>(area) + t) * inner + plane % inner];
  }
  TRIPHASE_HOST_DEVICE static Sum merge(Sum a, Sum b) { return a + b; }
  TRIPHASE_HOST_DEVICE void finish(int64_t plane, Sum sum) const { y[plane] = sum / static_cast<float>(area); }
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

// --- What memory can do at best -----------------------------------------------------------------

using Quad = Pack<float, 4>;

// These go over `quads` quads as often as fills their number of elements or terms. Rounds may overlap, since no result
// matters.

// y = number
struct Fill {
  Quad* y;
  float number;
  Divisor quads;

  template <class Index>
  TRIPHASE_HOST_DEVICE Quad value(Index) const {
    return {{number, number, number, number}};
  }
  template <class Index>
  TRIPHASE_HOST_DEVICE void put(Index i, const Quad& value) const {
    y[i % quads] = value;
  }
};

// y = x
struct CopyQuads {
  const Quad* x;
  Quad* y;
  Divisor quads;

  template <class Index>
  TRIPHASE_HOST_DEVICE Quad value(Index i) const {
    return x[i % quads];
  }
  template <class Index>
  TRIPHASE_HOST_DEVICE void put(Index i, const Quad& value) const {
    y[i % quads] = value;
  }
};

// y = y - scale x
struct Subtract {
  const Quad* x;
  Quad* y;
  float scale;
  Divisor quads;

  template <class Index>
  TRIPHASE_HOST_DEVICE Quad value(Index i) const {
    Quad result = y[i % quads];
    const Quad more = x[i % quads];
    for (int n = 0; n < 4; ++n) result.values[n] -= scale * more.values[n];
    return result;
  }
  template <class Index>
  TRIPHASE_HOST_DEVICE void put(Index i, const Quad& value) const {
    y[i % quads] = value;
  }
};

// sum = of all numbers.   segments: 1
struct SumOfQuads {
  const Quad* x;
  float* sum;
  Divisor quads;

  using Sum = float;
  std::false_type adjacent() const { return {}; }
  TRIPHASE_HOST_DEVICE static Sum nothing() { return 0; }
  template <class Index>
  TRIPHASE_HOST_DEVICE Sum term(Index, Index t) const {
    const Quad quad = x[t % quads];
    return (quad.values[0] + quad.values[1]) + (quad.values[2] + quad.values[3]);
  }
  TRIPHASE_HOST_DEVICE static Sum merge(Sum a, Sum b) { return a + b; }
  TRIPHASE_HOST_DEVICE void finish(int64_t, Sum all) const { *sum = all; }
};

// Goes so many steps from *place to next[*place], and writes where it came to.   One thread.
struct Chase {
  const uint32_t* next;
  uint32_t* place;
  int64_t loads;

  TRIPHASE_HOST_DEVICE uint32_t value(int64_t) const {
    uint32_t at = *place;
    for (int64_t i = 0; i < loads; ++i) at = next[at];
    return at;
  }
  TRIPHASE_HOST_DEVICE void put(int64_t, uint32_t at) const { *place = at; }
};

// --- Few segments of many terms -----------------------------------------------------------------

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
  using Kernels = std::variant<
      kernels::Relu<T>, kernels::ReluBackward<T>, kernels::Add<T>, kernels::AddBias<T>, kernels::MaxPool<T, uint8_t, 1>,
      kernels::MaxPool<T, uint8_t, kernels::kChannelsTogether>, kernels::MaxPool<T, uint8_t, 1, 2>,
      kernels::MaxPool<T, uint8_t, kernels::kChannelsTogether, 2>, kernels::MaxPool<T, uint8_t, 1, 3>,
      kernels::MaxPool<T, uint8_t, kernels::kChannelsTogether, 3>, kernels::MaxPool<T, int32_t, 1>,
      kernels::MaxPool<T, int32_t, kernels::kChannelsTogether>, kernels::MaxPoolBackward<T, uint8_t, 1>,
      kernels::MaxPoolBackward<T, uint8_t, kernels::kChannelsTogether>, kernels::MaxPoolBackward<T, int32_t, 1>,
      kernels::MaxPoolBackward<T, int32_t, kernels::kChannelsTogether>, kernels::MaxPoolBackwardInBlocks<T, uint8_t, 1>,
      kernels::MaxPoolBackwardInBlocks<T, uint8_t, kernels::kChannelsTogether>, kernels::AveragePool<T, 1>,
      kernels::AveragePool<T, kernels::kChannelsTogether>, kernels::AveragePoolBackward<T, 1>,
      kernels::AveragePoolBackward<T, kernels::kChannelsTogether>, kernels::Normalise<T, 1>,
      kernels::Normalise<T, kernels::kChannelsTogether>, kernels::NormaliseBackward<T, 1>,
      kernels::NormaliseBackward<T, kernels::kChannelsTogether>, kernels::Probabilities<T>,
      kernels::SoftmaxCrossEntropyBackward<T>, kernels::Scale<T>, kernels::Convert<T>, kernels::Transpose<T>,
      kernels::Update<Rule, T>...>;
};
template <class T>
using ElementKernelsOf = typename ElementKernels<T, Optimizer>::Kernels;
using ElementKernel =
    Joined<ElementKernelsOf<float>, ElementKernelsOf<BF16>, ElementKernelsOf<F16>,
           std::variant<kernels::Blend, kernels::Fill, kernels::CopyQuads, kernels::Subtract, kernels::Chase>>::Kernels;

template <class T>
using ReductionKernelsOf =
    std::variant<kernels::BiasGradient<T>, kernels::PlaneMean<T>, kernels::Moments<T>, kernels::NormaliseGradients<T>,
                 kernels::SumOfExponentials<T>, kernels::CrossEntropy<T>, kernels::MeanSquare<T>>;
using ReductionKernel = Joined<ReductionKernelsOf<float>, ReductionKernelsOf<BF16>, ReductionKernelsOf<F16>,
                               std::variant<kernels::SumOfQuads>>::Kernels;

template <class Kernel>
concept OverWindows = requires(const Kernel& kernel) {
  kernel.pool;
};

// Calls f.operator()<Index>() with what a kernel over so many elements or terms may count in.
template <class Kernel, class F>
void with_index_type(const Kernel& kernel, int64_t count, F f) {
  constexpr int64_t kFew = 1 << 30;  // so that a few steps of all threads beyond the end fit as well
  if constexpr (OverWindows<Kernel>) count = std::max(count, kernel.pool.most());
  if (count < kFew) {
    f.template operator()<int32_t>();
  } else {
    f.template operator()<int64_t>();
  }
}

// What one thread does of an element kernel: element `first`, and every `stride`-th from there. Several are on their
// way at once, but of windows, which have many operands of their own.
template <class Index, class Kernel>
TRIPHASE_HOST_DEVICE void compute_elements(const Kernel& kernel, Index first, Index stride, Index count) {
  constexpr int kAtOnce = OverWindows<Kernel> ? 1 : 4;
  Index i = first;
  if constexpr (kAtOnce > 1) {
    using Value = decltype(kernel.value(count));
    for (; i + (kAtOnce - 1) * stride < count; i += kAtOnce * stride) {
      Value values[kAtOnce];
      TRIPHASE_UNROLL
      for (int n = 0; n < kAtOnce; ++n) values[n] = kernel.value(i + n * stride);
      TRIPHASE_UNROLL
      for (int n = 0; n < kAtOnce; ++n) kernel.put(i + n * stride, values[n]);
    }
  }
  TRIPHASE_NO_UNROLL
  for (; i < count; i += stride) kernel.put(i, kernel.value(i));
}

// Threads of a block that reduces. It sums one segment, each thread every kReducers-th term, then pairs of threads; or
// kAdjacent segments, whose threads then read side by side.
inline constexpr int kReducers = 256;
inline constexpr int kAdjacent = 32;

// What the threads of such a block do, in stages that all of them end before any begins the next: sum(); merge() for
// half = kOfSegment / 2, halved until it is 1; finish(). The order of merging is fixed.
template <int kTogether, class Index, class Kernel>
struct ReducingBlock {
  using Sum = typename Kernel::Sum;
  static constexpr int kOfSegment = kReducers / kTogether;  // threads

  const Kernel& kernel;
  Index segments, terms;
  Index block;  // its number
  Sum* sums;    // of its threads, shared

  TRIPHASE_HOST_DEVICE Index segment(int thread) const { return block * kTogether + thread % kTogether; }

  TRIPHASE_HOST_DEVICE void sum(int thread) const {
    Sum own = Kernel::nothing();
    if (segment(thread) < segments) {
      Index end = terms;
      if constexpr (requires { kernel.terms_of(end); }) end = kernel.terms_of(segment(thread));
      Index t = thread / kTogether;
      if constexpr (requires { own.centred(); }) {
        constexpr int kStretch = 32;  // whose reads are on their way at once
        for (; t + (kStretch - 1) * kOfSegment < end; t += kStretch * kOfSegment) {
          TRIPHASE_UNROLL
          for (int n = 0; n < kStretch; ++n) kernels::add_term_to(own, kernel, segment(thread), t + n * kOfSegment);
          own = own.centred();
        }
      }
      for (; t < end; t += kOfSegment) kernels::add_term_to(own, kernel, segment(thread), t);
    }
    sums[thread] = own;
  }
  TRIPHASE_HOST_DEVICE void merge(int thread, int half) const {
    if (thread / kTogether < half) sums[thread] = Kernel::merge(sums[thread], sums[thread + half * kTogether]);
  }
  TRIPHASE_HOST_DEVICE void finish(int thread) const {
    if (thread < kTogether && segment(thread) < segments) kernel.finish(segment(thread), sums[thread]);
  }
};

// Calls f.operator()<kTogether>() with how many segments a block then sums.
template <class Adjacent, class F>
void with_together(Adjacent adjacent, F f) {
  if constexpr (!std::is_same_v<Adjacent, std::false_type>) {
    if (adjacent) return f.template operator()<kAdjacent>();
  }
  if constexpr (!std::is_same_v<Adjacent, std::true_type>) f.template operator()<1>();
}

// Room for the sums of parts.
inline constexpr int64_t kPartsBytes = 1 << 20;

// Runs a reduction by calls of run(kernel, segments, terms, adjacent): in parts, and then over the parts, where
// `blocks` blocks, as many as run at a time, make two parts at least and every thread has terms enough.
template <class Kernel, class Run>
void reduce_in_parts(const Kernel& kernel, int64_t segments, int64_t terms, int64_t blocks, std::byte* space, Run run) {
  using Sum = typename Kernel::Sum;
  constexpr int64_t kTermsWorthAThread = 2;
  const auto adjacent = kernel.adjacent();
  const int64_t together = adjacent ? kAdjacent : 1;
  const int64_t blocks_alone = (segments + together - 1) / together;
  const int64_t most = std::min(terms / (kReducers / together * kTermsWorthAThread),
                                kPartsBytes / static_cast<int64_t>(sizeof(Sum)) / segments);
  const int64_t parts = std::min(blocks / blocks_alone, most);  // a few blocks more would wait for all others
  if (parts < 2) return run(kernel, segments, terms, adjacent);
  auto* sums = reinterpret_cast<Sum*>(space);
  const int64_t length = (terms + parts - 1) / parts;
  run(kernels::InParts<Kernel>{kernel, sums, segments, terms, length}, segments * parts, length, adjacent);
  run(kernels::OfParts<Kernel>{kernel, sums, segments}, segments, parts, std::true_type());
}

}  // namespace triphase::cuda
