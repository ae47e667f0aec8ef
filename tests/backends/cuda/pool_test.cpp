// SPDX-License-Identifier: Apache-2.0
// Gradients of max pools by blocks of inputs are those by single inputs, for any window that they take.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "backends/cuda/kernels.h"

namespace triphase::cuda {
namespace {

struct Size {
  int64_t in, kernel, padding;
  int64_t out() const { return (in + 2 * padding - kernel) / 2 + 1; }
};

// Every way that one dimension may be.
std::vector<Size> sizes() {
  std::vector<Size> found;
  for (int64_t in = 1; in <= 9; ++in) {
    for (int64_t kernel = 1; kernel <= 4; ++kernel) {
      for (int64_t padding = 0; padding <= kernel / 2; ++padding) {
        if (in + 2 * padding >= kernel) found.push_back({in, kernel, padding});
      }
    }
  }
  return found;
}

template <class Index, class T, int kWidth>
void expect_alike(Size rows, Size columns, std::mt19937& engine) {
  constexpr int64_t kPlanes = 2;
  constexpr int64_t kInner = 3;
  const kernels::Pooling pool = {{rows.in, columns.in},
                                 {rows.out(), columns.out()},
                                 {rows.kernel, columns.kernel},
                                 {2, 2},
                                 {rows.padding, columns.padding},
                                 kInner,
                                 kPlanes};
  const int64_t outputs = kPlanes * rows.out() * columns.out() * kInner;
  const int64_t inputs = kPlanes * rows.in * columns.in * kInner;
  std::vector<kernels::Pack<T, kWidth>> dy(static_cast<size_t>(outputs));
  std::vector<kernels::Pack<uint8_t, kWidth>> tap(dy.size());
  for (size_t i = 0; i < dy.size(); ++i) {
    for (int n = 0; n < kWidth; ++n) {
      dy[i].values[n] = static_cast<float>(engine() % 64) - 32;  // small integers, of which any sum is exact
      tap[i].values[n] = static_cast<uint8_t>(engine() % static_cast<unsigned>(rows.kernel * columns.kernel));
    }
  }
  const auto gradients = [&](auto make, int64_t count) {
    std::vector<kernels::Pack<T, kWidth>> dx(static_cast<size_t>(inputs));
    for (auto& pack : dx) std::ranges::fill(pack.values, T(NAN));
    const auto kernel = make(dx.data());
    constexpr Index kStride = 7;
    for (Index thread = 0; thread < kStride; ++thread) {
      compute_elements(kernel, thread, kStride, static_cast<Index>(count));
    }
    return dx;
  };
  const auto one = gradients(
      [&](auto* dx) {
        return kernels::MaxPoolBackward<T, uint8_t, kWidth>{pool, dy.data(), tap.data(), dx};
      },
      inputs);
  const int64_t blocks[] = {kernels::blocks_along(pool, 0), kernels::blocks_along(pool, 1)};
  const auto by_blocks = gradients(
      [&](auto* dx) {
        return kernels::MaxPoolBackwardInBlocks<T, uint8_t, kWidth>{
            pool, {blocks[0], blocks[1]}, dy.data(), tap.data(), dx};
      },
      kPlanes * blocks[0] * blocks[1] * kInner);
  for (size_t i = 0; i < one.size(); ++i) {
    for (int n = 0; n < kWidth; ++n) {
      ASSERT_EQ(static_cast<float>(by_blocks[i].values[n]), static_cast<float>(one[i].values[n]))
          << "input " << i << " of " << rows.in << " x " << columns.in << ", kernel " << rows.kernel << " x "
          << columns.kernel << ", padding " << rows.padding << " x " << columns.padding;
    }
  }
}

TEST(GpuMaxPool, gradients_by_blocks_are_those_by_inputs) {
  std::mt19937 engine(5);
  for (const Size rows : sizes()) {
    for (const Size columns : sizes()) {
      expect_alike<int32_t, float, 1>(rows, columns, engine);
      if (engine() % 8 == 0) expect_alike<int64_t, BF16, 4>(rows, columns, engine);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

}  // namespace
}  // namespace triphase::cuda
