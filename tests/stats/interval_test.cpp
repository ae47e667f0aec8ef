// SPDX-License-Identifier: Apache-2.0
#include "stats/interval.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "stats/noise.h"
#include "stats/order.h"

namespace triphase {
namespace {

// 1 .. n in an order whose signs around the median alternate, so that no autocorrelation widens the interval.
std::vector<double> alternating(int n) {
  std::vector<double> series;
  for (int i = 0; i < n; ++i) series.push_back(i % 2 == 0 ? i / 2 + 1 : n - i / 2);
  return series;
}

TEST(MedianInterval, Has_the_binomial_ranks_of_the_tables) {
  EXPECT_EQ(median_interval(alternating(6)), (Interval{1, 6}));
  EXPECT_EQ(median_interval(alternating(10)), (Interval{2, 9}));
  EXPECT_EQ(median_interval(alternating(20)), (Interval{6, 15}));
  EXPECT_EQ(median_interval(alternating(100)), (Interval{40, 61}));
  EXPECT_EQ(median_interval(alternating(10000)), (Interval{4902, 5099}));
}

TEST(MedianInterval, Is_absent_below_6_samples) {
  for (int n = 0; n < 6; ++n) EXPECT_EQ(median_interval(alternating(n)), std::nullopt) << n;
}

TEST(MedianInterval, Of_a_constant_is_that_constant) {
  EXPECT_EQ(median_interval(std::vector<double>(6, 0.1)), (Interval{0.1, 0.1}));
}

TEST(MedianInterval, Is_absent_for_a_drift_because_it_has_below_6_effective_samples) {
  std::vector<double> series(100);
  for (size_t i = 0; i < series.size(); ++i) series[i] = static_cast<double>(i);
  EXPECT_LT(effective_sample_size(series), 6);
  EXPECT_EQ(median_interval(series), std::nullopt);
}

TEST(EffectiveSampleSize, Ignores_how_far_an_outlier_lies) {
  std::vector<double> series = autoregressive(1, 200, 0.5);
  const double before = effective_sample_size(series);
  *std::ranges::max_element(series) = 1e9;
  EXPECT_EQ(effective_sample_size(series), before);
}

TEST(EffectiveSampleSize, Credits_no_negative_correlation) { EXPECT_EQ(effective_sample_size(alternating(50)), 50); }

TEST(AutocorrelationTime, Is_that_of_the_process) {
  EXPECT_NEAR(autocorrelation_time(autoregressive(3, 100000, 0)), 1, 0.1);
  EXPECT_NEAR(autocorrelation_time(autoregressive(3, 100000, 0.5)), 3, 0.3);  // (1 + phi) / (1 - phi)
  EXPECT_NEAR(autocorrelation_time(autoregressive(3, 100000, 0.8)), 9, 0.9);
}

struct Coverage {
  double phi;
  size_t samples;
  double at_least;
  double at_most;
};

class MedianIntervalCoverage : public testing::TestWithParam<Coverage> {};

// Of 2000 series; the bands leave three standard errors (0.015) around the coverage of longer simulations. A lognormal
// series would give the same numbers, since the ranks of exp(x) are those of x.
TEST_P(MedianIntervalCoverage, Lies_in_its_band) {
  const Coverage band = GetParam();
  int present = 0;
  int covered = 0;
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    const auto interval = median_interval(autoregressive(seed, band.samples, band.phi));
    present += interval.has_value();
    covered += interval && interval->low <= 0 && 0 <= interval->high;
  }
  EXPECT_GT(present, 1800);
  EXPECT_GE(covered, band.at_least * present);
  EXPECT_LE(covered, band.at_most * present);
}

INSTANTIATE_TEST_SUITE_P(Noise, MedianIntervalCoverage,
                         testing::Values(Coverage{0, 30, 0.95, 0.99}, Coverage{0, 100, 0.95, 0.99},
                                         Coverage{0, 1000, 0.94, 0.98}, Coverage{0.5, 30, 0.92, 0.97},
                                         Coverage{0.5, 100, 0.935, 0.975}, Coverage{0.8, 100, 0.90, 0.95},
                                         Coverage{0.8, 300, 0.93, 0.97}));

TEST(MedianInterval, Depends_on_ranks_alone) {
  std::vector<double> series = autoregressive(5, 99, 0.5);
  const auto normal = median_interval(series);
  for (double& x : series) x = std::exp(x);
  EXPECT_EQ(median_interval(series), (Interval{std::exp(normal->low), std::exp(normal->high)}));
}

}  // namespace
}  // namespace triphase
