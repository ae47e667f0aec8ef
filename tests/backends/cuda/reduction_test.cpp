// SPDX-License-Identifier: Apache-2.0
// Reductions, whole and in parts: every term is summed once, however they are shared out.
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "backends/cuda/host_device.h"

namespace triphase::cuda {
namespace {

struct Sums {
  std::vector<float> values;
  int64_t launches = 0;
};

// The gradient of a bias: dy's sums by channel.
Sums sums_by_channel(const std::vector<float>& dy, int64_t channels, int64_t inner) {
  HostDevice device;
  Sums sums{std::vector<float>(static_cast<size_t>(channels)), 0};
  const auto terms = static_cast<int64_t>(dy.size()) / channels;
  device.launch(kernels::BiasGradient<float>{dy.data(), sums.values.data(), channels, inner}, channels, terms);
  sums.launches = device.counts().launches;
  return sums;
}

TEST(Reduction, sums_every_term_once) {
  std::mt19937 engine(11);
  int whole = 0;
  int in_parts = 0;
  for (const int64_t batch : {1, 2, 7, 40, 1000}) {
    for (const int64_t channels : {1, 3, 31, 32, 33, 100, 2000}) {
      for (const int64_t inner : {1, 5, 300}) {
        if (batch * channels * inner > 3'000'000) continue;
        std::vector<float> dy(static_cast<size_t>(batch * channels * inner));
        std::vector<float> expected(static_cast<size_t>(channels));
        for (size_t i = 0; i < dy.size(); ++i) {  // small integers, of which any sum is exact
          dy[i] = static_cast<float>(engine() % 16) - 8;
          expected[i / static_cast<size_t>(inner) % static_cast<size_t>(channels)] += dy[i];
        }
        const Sums found = sums_by_channel(dy, channels, inner);
        EXPECT_EQ(found.values, expected) << batch << " " << channels << " " << inner;
        (found.launches == 1 ? whole : in_parts) += 1;
      }
    }
  }
  EXPECT_GT(whole, 10);
  EXPECT_GT(in_parts, 10);
}

TEST(Reduction, moments_of_parts_are_those_of_the_whole) {
  constexpr int64_t kBatch = 30;
  constexpr int64_t kChannels = 3;
  constexpr int64_t kInner = 400;
  std::mt19937 engine(12);
  std::vector<float> x(kBatch * kChannels * kInner);
  for (float& value : x) value = 1000 + static_cast<float>(engine() % 8);
  HostDevice device;
  std::vector<float> mean(kChannels);
  std::vector<float> variance(kChannels);
  device.launch(kernels::Moments<float>{x.data(), mean.data(), variance.data(), kChannels, kInner}, kChannels,
                kBatch * kInner);
  EXPECT_EQ(device.counts().launches, 2);
  for (int64_t c = 0; c < kChannels; ++c) {
    double sum = 0;
    double squares = 0;
    for (int64_t t = 0; t < kBatch * kInner; ++t) {
      const double value = x[static_cast<size_t>(kernels::in_channel(c, t, kChannels, kInner))];
      sum += value;
      squares += value * value;
    }
    const double expected = sum / (kBatch * kInner);
    const auto i = static_cast<size_t>(c);
    EXPECT_NEAR(mean[i], expected, 1e-4 * 8);
    EXPECT_NEAR(variance[i], squares / (kBatch * kInner) - expected * expected, 1e-4 * 8);
  }
}

}  // namespace
}  // namespace triphase::cuda
