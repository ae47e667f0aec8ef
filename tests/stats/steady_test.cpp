// SPDX-License-Identifier: Apache-2.0
#include "stats/steady.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "stats/noise.h"

namespace triphase {
namespace {

// Step times around level(i), with relative noise of 2 %.
std::vector<double> steps(uint64_t seed, size_t count, double phi, const std::function<double(double)>& level) {
  std::vector<double> series = autoregressive(seed, count, phi);
  for (size_t i = 0; i < count; ++i) series[i] = level(static_cast<double>(i)) * (1 + 0.02 * series[i]);
  return series;
}

double flat(double) { return 1; }

// How many of 1000 series satisfy `is`.
int count(size_t samples, double phi, const std::function<double(double)>& level,
          const std::function<bool(Steadiness)>& is) {
  int found = 0;
  for (uint64_t seed = 0; seed < 1000; ++seed) found += is(find_steady_state(steps(seed, samples, phi, level), 0.005));
  return found;
}

bool drops_any(Steadiness found) { return found.warmup > 0; }
bool is_steady(Steadiness found) { return found.steady; }

TEST(SteadyState, Independent_noise_loses_samples_in_about_1_of_200_series) {
  for (const size_t samples : {12u, 20u, 50u, 100u, 300u, 1000u}) {
    EXPECT_LE(count(samples, 0, flat, drops_any), 13) << samples;  // 5 and three standard errors
  }
  EXPECT_GE(count(50, 0, flat, is_steady), 990);
}

TEST(SteadyState, Autocorrelation_is_seldom_taken_for_a_change) {
  EXPECT_LE(count(100, 0.5, flat, drops_any), 40);
  EXPECT_LE(count(300, 0.5, flat, drops_any), 20);
  EXPECT_LE(count(300, 0.8, flat, drops_any), 25);
}

TEST(SteadyState, Skewed_noise_is_no_different_because_only_ranks_count) {
  std::vector<double> series = steps(3, 200, 0, [](double i) { return i < 40 ? 1.1 : 1; });
  const size_t warmup = find_steady_state(series, 0).warmup;
  for (double& x : series) x = std::exp(20 * x);
  EXPECT_EQ(find_steady_state(series, 0).warmup, warmup);
  EXPECT_EQ(warmup, 40u);
}

TEST(SteadyState, A_step_is_found_where_it_is_or_two_samples_later) {
  const auto step_at = [](double k) { return [k](double i) { return i < k ? 1.3 : 1; }; };
  const auto drops = [](size_t from, size_t to) {
    return [=](Steadiness found) { return from <= found.warmup && found.warmup <= to; };
  };
  EXPECT_GE(count(50, 0, step_at(10), drops(10, 12)), 950);
  EXPECT_GE(count(100, 0, step_at(20), drops(20, 22)), 950);
  EXPECT_GE(count(100, 0, step_at(20), drops(20, 20)), 800);
  EXPECT_GE(count(300, 0, step_at(5), drops(5, 7)), 950);
  EXPECT_GE(count(300, 0.5, step_at(40), drops(40, 44)), 930);
}

TEST(SteadyState, A_slow_exponential_warmup_is_dropped_once_it_is_over) {
  const auto warming = [](double i) { return 1 + std::exp(-i / 20); };
  // After 4 time constants the noise of 2 % hides what is left.
  EXPECT_GE(count(300, 0, warming, [](Steadiness s) { return s.steady && s.warmup >= 60 && s.warmup <= 150; }), 950);
  EXPECT_LE(count(100, 0, warming, is_steady), 20);
  EXPECT_LE(count(50, 0, warming, is_steady), 20);
}

TEST(SteadyState, A_drift_is_not_steady) {
  EXPECT_LE(count(
                300, 0, [](double i) { return 1 + i / 3000; }, is_steady),
            10);
  std::vector<double> noiseless;
  for (int i = 0; i < 50; ++i) noiseless.push_back(1 + std::exp(-i / 20.0));
  EXPECT_FALSE(find_steady_state(noiseless, 0.005).steady);
}

TEST(SteadyState, A_change_in_the_second_half_keeps_that_half_and_is_not_steady) {
  const auto late = [](double i) { return i < 60 ? 1.1 : 1; };
  EXPECT_GE(count(100, 0, late, [](Steadiness s) { return !s.steady && s.warmup == 50; }), 990);
}

TEST(SteadyState, Outliers_are_no_change) {
  for (const size_t position : {0u, 30u, 59u}) {
    std::vector<double> series = steps(7, 60, 0, flat);
    series[position] = 100;
    const Steadiness found = find_steady_state(series, 0.005);
    EXPECT_EQ(found.warmup, 0u) << position;
    EXPECT_TRUE(found.steady) << position;
  }
}

TEST(SteadyState, A_shift_too_small_to_matter_is_kept) {
  std::vector<double> series(100, 1.0);
  for (size_t i = 0; i < 40; ++i) series[i] = 1.004;
  EXPECT_EQ(level_shift(series), 40u);
  EXPECT_EQ(find_steady_state(series, 0.005).warmup, 0u);
  EXPECT_EQ(find_steady_state(series, 0.003).warmup, 40u);
}

TEST(SteadyState, A_constant_series_is_steady_and_a_short_one_is_not_known_to_be) {
  EXPECT_TRUE(find_steady_state(std::vector<double>(20, 0.1), 0.005).steady);
  EXPECT_FALSE(find_steady_state(std::vector<double>{2, 1, 1}, 0.005).steady);
  EXPECT_EQ(find_steady_state({}, 0.005).warmup, 0u);
}

}  // namespace
}  // namespace triphase
