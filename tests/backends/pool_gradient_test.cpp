// SPDX-License-Identifier: Apache-2.0
// The own gradient of a max-pool and the ReLU before it against the definition, with both kinds of store: a plan takes
// the one past the caches only for what is too large for a test.
#include "backends/onednn/pool_gradient.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <random>

namespace triphase {
namespace {

template <class T>
struct Blocks {
  explicit Blocks(int64_t size)
      : count(size),
        data(static_cast<T*>(std::aligned_alloc(64, (static_cast<size_t>(size) * sizeof(T) + 63) / 64 * 64)),
             &std::free) {}
  T& operator[](int64_t i) { return data[static_cast<size_t>(i)]; }
  int64_t count;
  std::unique_ptr<T[], decltype(&std::free)> data;
};

// x: [N, C, H, W], all channels side by side.
template <class T>
void expect_gradient(const Window& window, const Shape& x, bool stream, bool relu) {
  const int64_t lanes = x[1];
  const Shape y = {x[0], x[1], window_output(window, 0, x[2]), window_output(window, 1, x[3])};
  const int64_t outputs = y[0] * y[2] * y[3] * lanes;
  Blocks<T> dy(outputs);
  Blocks<T> output(outputs);
  Blocks<uint8_t> tap((outputs + 63) / 64 * 64);
  Blocks<T> dx(x[0] * x[2] * x[3] * lanes);
  std::vector<float> expected(static_cast<size_t>(dx.count), 0.0f);
  std::mt19937 engine(3);
  for (int64_t i = 0; i < outputs; ++i) {
    const int64_t n = i / lanes / y[3] / y[2];
    int64_t t = 0;
    int64_t ih = -1;
    int64_t iw = -1;
    while (ih < 0 || ih >= x[2] || iw < 0 || iw >= x[3]) {  // a tap within x
      t = static_cast<int64_t>(engine() % static_cast<uint64_t>(window.kernel[0] * window.kernel[1]));
      ih = i / lanes / y[3] % y[2] * window.stride[0] - window.padding[0] + t / window.kernel[1];
      iw = i / lanes % y[3] * window.stride[1] - window.padding[1] + t % window.kernel[1];
    }
    dy[i] = static_cast<float>(engine() % 64) - 32;  // small integers, of which any sum is exact
    output[i] = engine() % 3 == 0 ? 0.0f : 1.0f;
    tap[i] = static_cast<uint8_t>(t);
    if (!relu || output[i] > 0.0f)
      expected[static_cast<size_t>(((n * x[2] + ih) * x[3] + iw) * lanes + i % lanes)] += dy[i];
  }
  PoolGradient{window, x, y, stream, lanes}(dy.data.get(), relu ? output.data.get() : nullptr, tap.data.get(),
                                            dx.data.get());
  for (int64_t i = 0; i < dx.count; ++i)
    ASSERT_EQ(static_cast<float>(dx[i]), expected[static_cast<size_t>(i)]) << "element " << i;
}

TEST(PoolGradient, is_the_masked_scatter_for_any_window) {
  if (!have_pool_gradient()) GTEST_SKIP() << "no AVX-512";
  const std::vector<Window> windows = {{{3, 3}, {2, 2}, {0, 0}, {1, 1}}, {{3, 3}, {2, 2}, {1, 1}, {1, 1}},
                                       {{2, 2}, {2, 2}, {0, 0}, {1, 1}}, {{2, 2}, {3, 3}, {1, 0}, {1, 1}},
                                       {{1, 1}, {1, 1}, {0, 0}, {1, 1}}, {{4, 5}, {1, 2}, {2, 1}, {1, 1}},
                                       {{3, 2}, {1, 3}, {0, 1}, {1, 1}}};
  for (const Window& window : windows) {
    for (const Shape& x : {Shape{2, 16, 7, 9}, Shape{1, 16, 12, 8}, Shape{3, 16, 40, 31}, Shape{2, 48, 9, 7}}) {
      for (const bool stream : {false, true}) {
        for (const bool relu : {false, true}) {
          expect_gradient<float>(window, x, stream, relu);
          expect_gradient<BF16>(window, x, stream, relu);
        }
      }
    }
  }
}

}  // namespace
}  // namespace triphase
