// SPDX-License-Identifier: Apache-2.0
#include "backends/onednn/products.h"

#include <omp.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>
#include <utility>

#ifdef __AVX512F__
#include <immintrin.h>
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // g++ 12 warns falsely within intrinsics (GCC bug 105593)
#endif
#endif

namespace triphase {

#ifndef __AVX512F__

bool have_products() { return false; }

void product_forward(const ProductShape&, const float*, const float*, const float*, bool, float*, float*) {
  throw std::logic_error("no AVX-512");
}
void product_backward_data(const ProductShape&, const float*, const float*, float*, float*) {
  throw std::logic_error("no AVX-512");
}
void product_backward_weights(const ProductShape&, const float*, const float*, float*, float*, Stores, float*) {
  throw std::logic_error("no AVX-512");
}
int64_t product_scratch(const ProductShape&, int) { return 0; }

#else

namespace {

constexpr int64_t kLanes = 16;
constexpr int kMostRows = 8;                 // of a tile
constexpr int kMostVectors = 8;              // of a tile, in one row
constexpr int64_t kSerialBelow = 64 * 1024;  // multiplications that cost less than a fork and join
constexpr int64_t kPanel = 3 * kLanes;       // columns of a packed panel
constexpr int64_t kDepth = 256;              // of a packed panel of transposed weights
constexpr int64_t kChunkFloats = 32 * 1024;  // of weights that every row uses in turn
constexpr int64_t kWideChunk = 32;           // inputs of such a chunk where features are many
constexpr int64_t kMostChunk = 128;          // and where they are few
constexpr int64_t kBlockRow = kMostChunk + kLanes;
constexpr int64_t kFarFloats = 8 << 20;  // weights of this many are in memory, or as good as
constexpr int64_t kInputBlock = 64;      // inputs whose gradients one packed panel of dy serves at a time

int64_t rounded_up(int64_t count) { return (count + kLanes - 1) / kLanes * kLanes; }

// c[r, :] (+)= sum_d a[r, d] b[d, :], a tile whose sums stay in registers.
struct Tile {
  const float* a;
  int64_t a_row, a_depth;  // strides
  const float* b;
  int64_t b_depth;
  int64_t depth;
  float* c;
  int64_t c_row;
  const float* start = nullptr;  // a row that the sums begin with
  bool add = false;              // they begin with c
  bool relu = false;
  bool stream = false;  // c is whole, aligned vectors
};

template <int kRows, int kVectors>
void compute(const Tile& tile, __mmask16 last) {
  const auto mask = [&](int v) { return v == kVectors - 1 ? last : __mmask16{0xffff}; };
  __m512 sums[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const float* start = tile.add ? tile.c + r * tile.c_row : tile.start;
      sums[r][v] = start ? _mm512_maskz_loadu_ps(mask(v), start + v * kLanes) : _mm512_setzero_ps();
    }
  }
  const float* a = tile.a;
  const float* b = tile.b;
  for (int64_t d = 0; d < tile.depth; ++d, a += tile.a_depth, b += tile.b_depth) {
    __m512 row[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) row[v] = _mm512_maskz_loadu_ps(mask(v), b + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const __m512 factor = _mm512_set1_ps(a[r * tile.a_row]);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sums[r][v] = _mm512_fmadd_ps(factor, row[v], sums[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      float* c = tile.c + r * tile.c_row + v * kLanes;
      const __m512 sum = tile.relu ? _mm512_max_ps(sums[r][v], _mm512_setzero_ps()) : sums[r][v];
      if (tile.stream) {
        _mm512_stream_ps(c, sum);
      } else {
        _mm512_mask_storeu_ps(c, mask(v), sum);
      }
    }
  }
}

// The widest tile of a height that leaves registers for a row of b and a factor.
constexpr int most_vectors(int rows) {
  return rows <= 2 ? kMostVectors : rows <= 4 ? 6 : rows == 5 ? 5 : rows == 6 ? 4 : 3;
}

using Compute = void (*)(const Tile&, __mmask16);

template <int kRows, int kVectors>
constexpr Compute compute_or_null() {
  if constexpr (kVectors <= most_vectors(kRows)) {
    return compute<kRows, kVectors>;
  } else {
    return nullptr;
  }
}

template <int kRows, int... kVectors>
constexpr std::array<Compute, kMostVectors> computes(std::integer_sequence<int, kVectors...>) {
  return {compute_or_null<kRows, kVectors + 1>()...};
}

template <int... kRows>
constexpr std::array<std::array<Compute, kMostVectors>, kMostRows> all_computes(std::integer_sequence<int, kRows...>) {
  return {computes<kRows + 1>(std::make_integer_sequence<int, kMostVectors>())...};
}

constexpr auto kCompute = all_computes(std::make_integer_sequence<int, kMostRows>());

// At most kMostRows rows and most_vectors(rows) vectors.
void run(const Tile& tile, int64_t rows, int64_t columns) {
  const int64_t vectors = (columns + kLanes - 1) / kLanes;
  const int64_t rest = columns - (vectors - 1) * kLanes;
  kCompute[static_cast<size_t>(rows - 1)][static_cast<size_t>(vectors - 1)](tile,
                                                                            static_cast<__mmask16>((1u << rest) - 1));
}

struct Range {
  int64_t begin, end;
};

// A thread's share of `count` in whole pieces.
Range share(int64_t count, int64_t piece, int thread, int threads) {
  const int64_t pieces = (count + piece - 1) / piece;
  return {std::min(count, pieces * thread / threads * piece), std::min(count, pieces * (thread + 1) / threads * piece)};
}

bool is_small(const ProductShape& shape) { return shape.rows * shape.inputs * shape.features < kSerialBelow; }

// Weights are parted among the threads by input, or by feature where inputs are few.
bool parts_inputs(const ProductShape& shape) { return shape.inputs >= 64; }

// Tiles are at most this wide, by the rows that they have to serve.
int64_t tile_columns(int64_t rows) {
  return kLanes * most_vectors(static_cast<int>(std::min<int64_t>(rows, kMostRows)));
}

// out[j, i] = in[i, j], both of 16 rows: four rounds that interleave halves.
void transpose(__m512* in) {
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  __m512 out[kLanes];
#pragma GCC unroll 4
  for (int round = 0; round < 4; ++round) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      out[2 * i] = _mm512_permutex2var_ps(in[i], low, in[i + 8]);
      out[2 * i + 1] = _mm512_permutex2var_ps(in[i], high, in[i + 8]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) in[i] = out[i];
  }
}

__mmask16 lanes(int64_t count) { return static_cast<__mmask16>((1u << std::clamp<int64_t>(count, 0, kLanes)) - 1); }

// Asks for rows [first, first + depth) of b, which lies in memory, while what is there already is computed with: the
// hardware follows too few rows at once to do so itself.
void prefetch(const float* b, int64_t b_depth, int64_t first, int64_t depth, int64_t columns) {
  for (int64_t d = first; d < first + depth; ++d) {
    for (int64_t v = 0; v < columns; v += kLanes) {
      _mm_prefetch(reinterpret_cast<const char*>(b + d * b_depth + v), _MM_HINT_T1);
    }
  }
}

// packed[d, 0..columns) = b[d, ...], rows of kPanel.
void pack(const float* b, int64_t b_depth, int64_t depth, int64_t columns, float* packed) {
  for (int64_t d = 0; d < depth; ++d) {
    for (int64_t v = 0; v < columns; v += kLanes) {
      _mm512_storeu_ps(packed + d * kPanel + v, _mm512_maskz_loadu_ps(lanes(columns - v), b + d * b_depth + v));
    }
  }
}

// One thread's sum over inputs [begin, end): y = x w, in chunks of inputs whose weights stay in the cache while every
// row uses them. Rows of x and w may lie a power of two apart, where they would share a few sets of the cache; what
// several tiles read is copied together.
void accumulate_forward(const ProductShape& shape, Range inputs, const float* x, const float* w, float* y,
                        float* panel) {
  const auto [rows, count, features] = shape;
  const bool packs_x = rows > kMostRows;
  const bool packs_w = packs_x && features >= 1024;
  const bool is_far = count * features >= kFarFloats;
  const int64_t chunk = packs_w ? kWideChunk : std::clamp<int64_t>(kChunkFloats / features, 8, kMostChunk);
  const int64_t width = packs_x ? kPanel : tile_columns(rows);
  float* const x_block = panel + kWideChunk * kPanel;
  for (int64_t c = inputs.begin; c < inputs.end; c += chunk) {
    const int64_t depth = std::min(chunk, inputs.end - c);
    for (int64_t n = 0; packs_x && n < rows; ++n) std::copy_n(x + n * count + c, depth, x_block + n * kBlockRow);
    for (int64_t k = 0; k < features; k += width) {
      const int64_t columns = std::min(width, features - k);
      const float* b = w + c * features + k;
      if (is_far && c + depth < inputs.end) {
        prefetch(b, features, depth, std::min(chunk, inputs.end - c - depth), columns);
      }
      if (packs_w) pack(b, features, depth, columns, panel);
      for (int64_t n = 0; n < rows; n += kMostRows) {
        const Tile tile = {.a = packs_x ? x_block + n * kBlockRow : x + n * count + c,
                           .a_row = packs_x ? kBlockRow : count,
                           .a_depth = 1,
                           .b = packs_w ? panel : b,
                           .b_depth = packs_w ? kPanel : features,
                           .depth = depth,
                           .c = y + n * features + k,
                           .c_row = features,
                           .add = c > inputs.begin};
        run(tile, std::min<int64_t>(kMostRows, rows - n), columns);
      }
    }
  }
}

// y = relu?(sum of the threads' parts + b), elements [begin, end) of one long row.
void add_parts(const float* parts, int64_t part, int threads, const float* b, bool relu, int64_t features, Range range,
               float* y) {
  for (int64_t i = range.begin; i < range.end;) {
    const int64_t k = i % features;
    const int64_t count = std::min(range.end - i, features - k);
    for (int64_t v = 0; v < count; v += kLanes) {
      const __mmask16 mask = lanes(count - v);
      __m512 sum = b ? _mm512_maskz_loadu_ps(mask, b + k + v) : _mm512_setzero_ps();
      for (int t = 0; t < threads; ++t) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, parts + t * part + i + v));
      if (relu) sum = _mm512_max_ps(sum, _mm512_setzero_ps());
      _mm512_mask_storeu_ps(y + i + v, mask, sum);
    }
    i += count;
  }
}

// dx[n, c..c+16) = sum_k dy[n, k] w[c.., k] as 16 dot products, for so few rows that turning the weights does not pay.
void dot_products(const ProductShape& shape, int64_t c, const float* dy, const float* w, float* dx) {
  const auto [rows, inputs, features] = shape;
  const int64_t count = std::min(kLanes, inputs - c);
  for (int64_t n = 0; n < rows; ++n) {
    __m512 sums[kLanes];
    for (__m512& sum : sums) sum = _mm512_setzero_ps();
    for (int64_t k = 0; k < features; k += kLanes) {
      const __mmask16 mask = lanes(features - k);
      const __m512 row = _mm512_maskz_loadu_ps(mask, dy + n * features + k);
#pragma GCC unroll 16
      for (int64_t i = 0; i < kLanes; ++i) {
        const float* from = w + (c + std::min(i, count - 1)) * features + k;
        sums[i] = _mm512_fmadd_ps(row, _mm512_maskz_loadu_ps(mask, from), sums[i]);
      }
    }
    transpose(sums);
    for (int64_t half = kLanes / 2; half > 0; half /= 2) {
      for (int64_t i = 0; i < half; ++i) sums[i] = _mm512_add_ps(sums[i], sums[i + half]);
    }
    _mm512_mask_storeu_ps(dx + n * inputs + c, lanes(count), sums[0]);
  }
}

// packed[k, 0..columns) = w[c.., k]ᵀ, rows of kPanel; padded with zeros.
void pack_transposed(const float* w, int64_t features, int64_t columns, int64_t depth, float* packed) {
  for (int64_t c = 0; c < columns; c += kLanes) {
    for (int64_t k = 0; k < depth; k += kLanes) {
      __m512 block[kLanes];
#pragma GCC unroll 16
      for (int64_t i = 0; i < kLanes; ++i) {
        const __mmask16 mask = c + i < columns ? lanes(depth - k) : __mmask16{0};
        block[i] = _mm512_maskz_loadu_ps(mask, w + (c + i) * features + k);
      }
      transpose(block);
      for (int64_t i = 0; i < kLanes; ++i) _mm512_storeu_ps(packed + (k + i) * kPanel + c, block[i]);
    }
  }
}

// dx of inputs [c, c + columns), at most a panel.
void turned_products(const ProductShape& shape, int64_t c, int64_t columns, const float* dy, const float* w, float* dx,
                     float* panel) {
  const auto [rows, inputs, features] = shape;
  for (int64_t k = 0; k < features; k += kDepth) {
    const int64_t depth = std::min(kDepth, features - k);
    pack_transposed(w + c * features + k, features, columns, depth, panel);
    for (int64_t n = 0; n < rows; n += kMostRows) {
      const Tile tile = {.a = dy + n * features + k,
                         .a_row = features,
                         .a_depth = 1,
                         .b = panel,
                         .b_depth = kPanel,
                         .depth = depth,
                         .c = dx + n * inputs + c,
                         .c_row = inputs,
                         .add = k > 0};
      run(tile, std::min<int64_t>(kMostRows, rows - n), columns);
    }
  }
}

// dw of inputs and features within their ranges. Few rows: a tile's rows of dw are written from end to end. Many: `dy`
// is packed in panels of kPanel columns, each of which serves a block of inputs, and x is packed into `x_block`.
void weight_gradient(const ProductShape& shape, Range inputs, Range features, const float* x, const float* dy,
                     float* x_block, float* dw, bool stream) {
  const auto [rows, count, all] = shape;
  const bool packed = x_block != nullptr;
  const int64_t block = packed ? kInputBlock : stream && rows <= 2 ? 1 : kMostRows;
  const int64_t height = std::min<int64_t>(std::min<int64_t>(block, kMostRows), inputs.end - inputs.begin);
  const int64_t width = packed ? kPanel : tile_columns(height);
  for (int64_t first = inputs.begin; first < inputs.end; first += block) {
    const int64_t last = std::min(inputs.end, first + block);
    if (packed) {
      for (int64_t n = 0; n < rows; ++n) std::copy_n(x + n * count + first, last - first, x_block + n * block);
    }
    for (int64_t k = features.begin; k < features.end; k += width) {
      for (int64_t c = first; c < last; c += kMostRows) {
        const Tile tile = {.a = packed ? x_block + c - first : x + c,
                           .a_row = 1,
                           .a_depth = packed ? block : count,
                           .b = packed ? dy + k * rows : dy + k,
                           .b_depth = packed ? kPanel : all,
                           .depth = rows,
                           .c = dw + c * all + k,
                           .c_row = all,
                           .stream = stream};
        run(tile, std::min<int64_t>(kMostRows, last - c), std::min(width, features.end - k));
      }
    }
  }
}

void bias_gradient_of(const ProductShape& shape, Range features, const float* dy, float* db) {
  constexpr float kOne = 1;
  const int64_t width = tile_columns(1);
  for (int64_t k = features.begin; k < features.end; k += width) {
    const Tile tile = {.a = &kOne,
                       .a_row = 0,
                       .a_depth = 0,
                       .b = dy + k,
                       .b_depth = shape.features,
                       .depth = shape.rows,
                       .c = db + k,
                       .c_row = 0};
    run(tile, 1, std::min(width, features.end - k));
  }
}

// Of one thread.
int64_t panel_floats(const ProductShape& shape) { return kDepth * kPanel + kBlockRow * shape.rows; }

}  // namespace

bool have_products() { return true; }

int64_t product_scratch(const ProductShape& shape, int threads) {
  const int64_t parts = rounded_up(shape.rows * shape.features) * threads;
  const int64_t panels = panel_floats(shape) * threads;
  const int64_t packed_dy = shape.rows * (shape.features + kPanel);
  return std::max(parts, packed_dy) + panels;
}

void product_forward(const ProductShape& shape, const float* x, const float* w, const float* b, bool relu, float* y,
                     float* scratch) {
  const int64_t rows = shape.rows;  // clang has no structured bindings within a parallel region
  const int64_t inputs = shape.inputs;
  const int64_t features = shape.features;
#pragma omp parallel if (!is_small(shape))
  {
    const int thread = omp_get_thread_num();
    const int threads = omp_get_num_threads();
    if (parts_inputs(shape)) {
      float* parts = scratch + panel_floats(shape) * threads;
      const int64_t part = rounded_up(rows * features);
      accumulate_forward(shape, share(inputs, 1, thread, threads), x, w, parts + part * thread,
                         scratch + panel_floats(shape) * thread);
#pragma omp barrier
      add_parts(parts, part, threads, b, relu, features, share(rows * features, kLanes, thread, threads), y);
    } else {
      const Range range = share(features, kLanes, thread, threads);
      const int64_t width = tile_columns(rows);
      for (int64_t k = range.begin; k < range.end; k += width) {
        for (int64_t n = 0; n < rows; n += kMostRows) {
          const Tile tile = {.a = x + n * inputs,
                             .a_row = inputs,
                             .a_depth = 1,
                             .b = w + k,
                             .b_depth = features,
                             .depth = inputs,
                             .c = y + n * features + k,
                             .c_row = features,
                             .start = b ? b + k : nullptr,
                             .relu = relu};
          run(tile, std::min<int64_t>(kMostRows, rows - n), std::min(width, range.end - k));
        }
      }
    }
  }
}

void product_backward_data(const ProductShape& shape, const float* dy, const float* w, float* dx, float* scratch) {
  constexpr int64_t kFewRows = 3;
  const bool dots = shape.rows <= kFewRows;
#pragma omp parallel if (!is_small(shape))
  {
    const int thread = omp_get_thread_num();
    const Range range = share(shape.inputs, kLanes, thread, omp_get_num_threads());
    const int64_t width = dots ? kLanes : kPanel;
    for (int64_t c = range.begin; c < range.end; c += width) {
      if (dots) {
        dot_products(shape, c, dy, w, dx);
      } else {
        turned_products(shape, c, std::min(width, range.end - c), dy, w, dx, scratch + panel_floats(shape) * thread);
      }
    }
  }
}

void product_backward_weights(const ProductShape& shape, const float* x, const float* dy, float* dw, float* db,
                              Stores stores, float* scratch) {
  const int64_t rows = shape.rows;
  const int64_t inputs = shape.inputs;
  const int64_t features = shape.features;
  const bool stream = stores == Stores::kStreaming && features % kLanes == 0;
  const bool packs = rows > kMostRows && parts_inputs(shape);
#pragma omp parallel if (!is_small(shape))
  {
    const int thread = omp_get_thread_num();
    const int threads = omp_get_num_threads();
    const Range columns = share(features, kLanes, thread, threads);
    float* const packed_dy = scratch + panel_floats(shape) * threads;
    if (packs) {
      const Range panels = share(features, kPanel, thread, threads);
      for (int64_t k = panels.begin; k < panels.end; k += kPanel) {
        pack(dy + k, features, rows, std::min(kPanel, features - k), packed_dy + k * rows);
      }
#pragma omp barrier
    }
    if (parts_inputs(shape)) {
      weight_gradient(shape, share(inputs, 1, thread, threads), {0, features}, x, packs ? packed_dy : dy,
                      packs ? scratch + panel_floats(shape) * thread : nullptr, dw, stream);
    } else {
      weight_gradient(shape, {0, inputs}, columns, x, dy, nullptr, dw, stream);
    }
    if (db) bias_gradient_of(shape, columns, dy, db);
    if (stream) _mm_sfence();
  }
}

#endif

}  // namespace triphase
