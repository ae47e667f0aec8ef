// SPDX-License-Identifier: Apache-2.0
// Random numbers: the published values of their parts, and the moments of what comes out.
#include "core/random.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace triphase {
namespace {

constexpr int kDraws = 100000;

struct Moments {
  double mean = 0;
  double variance = 0;
  double skewness = 0;
  double kurtosis = 0;
};

template <class Draw>
Moments moments(Draw draw) {
  Moments m;
  for (int i = 0; i < kDraws; ++i) m.mean += draw(i) / kDraws;
  for (int i = 0; i < kDraws; ++i) {
    const double d = draw(i) - m.mean;
    m.variance += d * d / kDraws;
    m.skewness += d * d * d / kDraws;
    m.kurtosis += d * d * d * d / kDraws;
  }
  m.skewness /= std::pow(m.variance, 1.5);
  m.kurtosis /= m.variance * m.variance;
  return m;
}

// Steele, Lea and Flood's generator as published: the state grows by the golden ratio before it is mixed.
TEST(Random, bits_are_the_published_sequence_of_SplitMix64) {
  const uint64_t from_zero[] = {0xe220a8397b1dcdaf, 0x6e789e6aa1b965f4, 0x06c45d188009454f, 0xf88bb8a8724c81ec,
                                0x1b39896a51a8749b};
  const uint64_t from_1234567[] = {6457827717110365317u, 3203168211198807973u, 9817491932198370423u,
                                   4593380528125082431u, 16408922859458223821u};
  for (uint64_t i = 0; i < 5; ++i) {
    EXPECT_EQ(random_bits(0, i), from_zero[i]) << i;
    EXPECT_EQ(random_bits(1234567, i), from_1234567[i]) << i;
  }
}

TEST(Random, streams_mix_the_published_FNV_1a_of_their_name_with_the_seed) {
  EXPECT_EQ(random_stream("", 0), random_bits(0xcbf29ce484222325, 0));
  EXPECT_EQ(random_stream("a", 7), random_bits(0xaf63dc4c8601ec8c, 7));
  EXPECT_EQ(random_stream("foobar", 1), random_bits(0x85944171f73967e8, 1));
}

TEST(Random, streams_of_other_names_and_seeds_are_others) {
  std::set<uint64_t> streams;
  for (const char* name : {"input", "target", "fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}) {
    for (uint64_t seed = 0; seed < 100; ++seed) streams.insert(random_stream(name, seed));
  }
  EXPECT_EQ(streams.size(), 600u);
}

TEST(Random, uniform_lies_strictly_between_0_and_1) {
  double least = 1;
  double most = 0;
  for (uint64_t i = 0; i < kDraws; ++i) {
    const double u = random_uniform(5, i);
    least = std::min(least, u);
    most = std::max(most, u);
  }
  EXPECT_GT(least, 0);
  EXPECT_LT(least, 1e-4);
  EXPECT_LT(most, 1);
  EXPECT_GT(most, 1 - 1e-4);
}

TEST(Random, uniform_fills_a_hundred_bins_evenly) {
  std::vector<int> bins(100);
  for (uint64_t i = 0; i < kDraws; ++i) ++bins[static_cast<size_t>(random_uniform(9, i) * 100)];
  double chi_squared = 0;
  for (const int count : bins) chi_squared += (count - 1000.0) * (count - 1000.0) / 1000.0;
  EXPECT_GT(chi_squared, 57);  // the 0.0002 and 0.9998 quantiles of 99 degrees of freedom, about
  EXPECT_LT(chi_squared, 155);
}

// To more digits than single precision has: Wichura promises a relative error of about 1e-7.
TEST(NormalQuantile, known_values_to_seven_digits) {
  const struct {
    double p, x;
  } known[] = {{0.5, 0.0},
               {0.75, 0.674489750196082},
               {0.9, 1.281551565544600},
               {0.95, 1.644853626951473},
               {0.975, 1.959963984540054},
               {0.99, 2.326347874040841},
               {0.995, 2.575829303548901},
               {0.999, 3.090232306167814},
               {0.9999, 3.719016485455709},
               {1 - 1e-6, 4.753424308822899},
               {0.0013498980316300933, -3.0},
               {0.001, -3.090232306167814},
               {1e-10, -6.361340902404056},
               {1e-15, -7.941345326170998},
               {1e-100, -21.27345356}};
  for (const auto& [p, x] : known) EXPECT_NEAR(normal_quantile(p), x, 2e-7 * std::abs(x)) << p;
  EXPECT_NEAR(normal_quantile(0.975), 1.959964, 1e-6);
}

TEST(NormalQuantile, is_odd_about_one_half_and_grows) {
  double last = -100;
  for (int i = 1; i < 4096; ++i) {
    const double p = i / 4096.0;
    const double x = normal_quantile(p);
    EXPECT_EQ(normal_quantile(1 - p), -x) << p;
    EXPECT_GT(x, last) << p;
    last = x;
  }
}

// Bounds are four standard errors of each moment over 1e5 draws.
TEST(Random, normal_numbers_have_mean_0_variance_1_skewness_0_kurtosis_3) {
  for (const uint64_t stream : {uint64_t{1}, uint64_t{2}, random_stream("input", 1)}) {
    const Moments m = moments([&](int i) { return random_normal(stream, static_cast<uint64_t>(i)); });
    EXPECT_NEAR(m.mean, 0, 4 * std::sqrt(1.0 / kDraws));
    EXPECT_NEAR(m.variance, 1, 4 * std::sqrt(2.0 / kDraws));
    EXPECT_NEAR(m.skewness, 0, 4 * std::sqrt(6.0 / kDraws));
    EXPECT_NEAR(m.kurtosis, 3, 4 * std::sqrt(24.0 / kDraws));
  }
}

// Variance 1 - 6 φ(3) / (1 - 2 Φ(-3)) = 0.973337.
TEST(Random, truncated_normal_numbers_have_mean_0_and_variance_0_9733) {
  for (const uint64_t stream : {uint64_t{1}, uint64_t{2}, random_stream("fc1.weight", 1)}) {
    const Moments m = moments([&](int i) { return random_truncated_normal(stream, static_cast<uint64_t>(i)); });
    EXPECT_NEAR(m.mean, 0, 4 * std::sqrt(1.0 / kDraws));
    EXPECT_NEAR(m.variance, 0.973337, 4 * std::sqrt(2.0 / kDraws));
    EXPECT_NEAR(m.skewness, 0, 4 * std::sqrt(6.0 / kDraws));
  }
}

TEST(Random, truncated_normal_numbers_lie_within_three) {
  constexpr double kPpnd7 = 3e-7;  // the quantile's own error at 3
  double most = 0;
  for (uint64_t i = 0; i < kDraws; ++i) most = std::max(most, std::abs(random_truncated_normal(3, i)));
  EXPECT_LE(most, 3 + kPpnd7);
  EXPECT_GT(most, 2.99);
}

TEST(Random, an_element_does_not_depend_on_the_order_of_drawing) {
  const double third = random_normal(11, 3);
  for (uint64_t i = 0; i < 10; ++i) random_normal(11, i);
  EXPECT_EQ(random_normal(11, 3), third);
}

TEST(Random, neighbours_are_uncorrelated) {
  double sum = 0;
  for (uint64_t i = 0; i < kDraws; ++i) sum += random_normal(21, i) * random_normal(21, i + 1);
  EXPECT_NEAR(sum / kDraws, 0, 4 * std::sqrt(1.0 / kDraws));
}

}  // namespace
}  // namespace triphase
