// SPDX-License-Identifier: Apache-2.0
#include "stats/interval.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "stats/order.h"

namespace triphase {
namespace {

// The largest rank r (from 1) with P(Binomial(n, 1/2) < r) <= 0.025; 0 if there is none.
int64_t lower_rank(int64_t n) {
  double log_probability = -static_cast<double>(n) * std::log(2.0);
  double below = 0;
  for (int64_t rank = 0;; ++rank) {
    below += std::exp(log_probability);
    if (below > 0.025) return rank;
    log_probability += std::log(static_cast<double>(n - rank) / static_cast<double>(rank + 1));
  }
}

}  // namespace

double autocorrelation_time(std::span<const double> series) {
  const size_t n = series.size();
  if (n < 2 || std::ranges::all_of(series, [&](double x) { return x == series[0]; })) return 1;
  double mean = 0;
  for (const double x : series) mean += x / static_cast<double>(n);
  std::vector<double> centred(series.begin(), series.end());
  for (double& x : centred) x -= mean;
  const auto covariance = [&](size_t lag) {
    double sum = 0;
    for (size_t i = lag; i < n; ++i) sum += centred[i] * centred[i - lag];
    return sum;
  };
  double sum = 0;
  double last = std::numeric_limits<double>::infinity();
  for (size_t lag = 0; lag + 1 < n; lag += 2) {
    last = std::min(last, covariance(lag) + covariance(lag + 1));
    if (last <= 0) break;
    sum += last;
  }
  return std::max(1.0, 2 * sum / covariance(0) - 1);
}

double effective_sample_size(std::span<const double> samples) {
  const std::optional<double> centre = median(samples);
  if (!centre) return 0;
  std::vector<double> signs;
  signs.reserve(samples.size());
  for (const double x : samples) signs.push_back(static_cast<double>((x > *centre) - (x < *centre)));
  return static_cast<double>(samples.size()) / autocorrelation_time(signs);
}

std::optional<Interval> median_interval(std::span<const double> samples) {
  const auto effective = static_cast<int64_t>(effective_sample_size(samples));
  const int64_t rank = lower_rank(effective);
  if (rank == 0) return std::nullopt;
  // The share of the samples between the median and either end is that of the effective ones.
  const auto n = static_cast<double>(samples.size());
  const double share =
      (static_cast<double>(effective + 1) / 2 - static_cast<double>(rank)) / static_cast<double>(effective);
  const auto low = static_cast<size_t>(std::max(1.0, std::floor((n + 1) / 2 - n * share))) - 1;
  std::vector<double> sorted(samples.begin(), samples.end());
  std::ranges::sort(sorted);
  return Interval{sorted[low], sorted[sorted.size() - 1 - low]};
}

}  // namespace triphase
