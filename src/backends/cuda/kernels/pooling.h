// SPDX-License-Identifier: Apache-2.0
// Windows that slide over images: their largest, their mean, and the gradients of both.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "backends/cuda/kernels/pack.h"
#include "backends/cuda/kernels/sums.h"
#include "core/divisor.h"
#include "core/host_device.h"

namespace triphase::cuda::kernels {

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

}  // namespace triphase::cuda::kernels
