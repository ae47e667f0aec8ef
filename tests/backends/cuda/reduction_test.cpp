// SPDX-License-Identifier: Apache-2.0
// Reductions, whole and in parts: every term is summed once, however they are shared out.
#include <gtest/gtest.h>

#include <cmath>
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

struct MomentsOf {
  std::vector<float> mean, variance;
  int64_t launches = 0;
};

// By channel.   x: [batch, channels, inner]
MomentsOf moments_of(const std::vector<float>& x, int64_t channels, int64_t inner) {
  HostDevice device;
  const auto count = static_cast<size_t>(channels);
  MomentsOf found{std::vector<float>(count), std::vector<float>(count)};
  device.launch(kernels::Moments<float>{x.data(), found.mean.data(), found.variance.data(), channels, inner}, channels,
                static_cast<int64_t>(x.size()) / channels);
  found.launches = device.counts().launches;
  return found;
}

// Against sums in float64; `error` is relative to the variance and, for the mean, to its root.
void expect_moments(const std::vector<float>& x, int64_t channels, int64_t inner, double error) {
  const MomentsOf found = moments_of(x, channels, inner);
  const int64_t terms = static_cast<int64_t>(x.size()) / channels;
  for (int64_t c = 0; c < channels; ++c) {
    const auto value = [&](int64_t t) -> double {
      return x[static_cast<size_t>(kernels::in_channel(c, t, channels, inner))];
    };
    double mean = 0;
    for (int64_t t = 0; t < terms; ++t) mean += value(t) / static_cast<double>(terms);
    double variance = 0;
    for (int64_t t = 0; t < terms; ++t) variance += (value(t) - mean) * (value(t) - mean) / static_cast<double>(terms);
    const auto i = static_cast<size_t>(c);
    EXPECT_NEAR(found.mean[i], mean, error * std::sqrt(variance) + 1e-7 * std::abs(mean)) << c;
    EXPECT_NEAR(found.variance[i], variance, error * variance) << c;
  }
}

TEST(Reduction, moments_of_parts_are_those_of_the_whole) {
  constexpr int64_t kBatch = 30;
  constexpr int64_t kChannels = 3;
  constexpr int64_t kInner = 400;
  std::mt19937 engine(12);
  std::vector<float> x(kBatch * kChannels * kInner);
  for (float& value : x) value = 1000 + static_cast<float>(engine() % 8);
  EXPECT_EQ(moments_of(x, kChannels, kInner).launches, 2);
  expect_moments(x, kChannels, kInner, 1e-4);
}

// However far the first term is from the others: it adds as much to the variance as it may take from its digits, one in
// 2^24 for each of 32 terms and for each that they are summed in.
TEST(Reduction, moments_hold_where_the_first_term_is_far_from_all_others) {
  std::mt19937 engine(13);
  for (const int64_t batch : {2, 60, 5000}) {
    for (const int64_t channels : {1, 5, 64}) {
      for (const int64_t inner : {1, 49}) {
        std::vector<float> x(static_cast<size_t>(batch * channels * inner));
        for (float& value : x) value = std::normal_distribution<float>(3, 1)(engine);
        for (int64_t c = 0; c < channels; ++c) x[static_cast<size_t>(c * inner)] = 1e4f * static_cast<float>(c);
        expect_moments(x, channels, inner, 32 * 32 * 0x1p-24);
      }
    }
  }
}

TEST(Reduction, equal_terms_have_no_variance) {
  const MomentsOf found = moments_of(std::vector<float>(7 * 4 * 100, 0.1f), 4, 100);
  EXPECT_EQ(found.mean, std::vector<float>(4, 0.1f));
  EXPECT_EQ(found.variance, std::vector<float>(4, 0.0f));
}

}  // namespace
}  // namespace triphase::cuda
