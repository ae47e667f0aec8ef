// SPDX-License-Identifier: Apache-2.0
#include "stats/steady.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "core/random.h"
#include "stats/interval.h"
#include "stats/order.h"

namespace triphase {
namespace {

// The normal quantile of rank / (n + 1), ties sharing their middle rank, shifted to mean 0.
std::vector<double> normal_scores(std::span<const double> series) {
  const size_t n = series.size();
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::sort(order, {}, [&](size_t i) { return series[i]; });
  std::vector<double> scores(n);
  for (size_t begin = 0, end = 0; begin < n; begin = end) {
    while (end < n && series[order[end]] == series[order[begin]]) ++end;
    const double middle_rank = static_cast<double>(begin + 1 + end) / 2;
    const double score = normal_quantile(middle_rank / static_cast<double>(n + 1));
    for (size_t i = begin; i < end; ++i) scores[order[i]] = score;
  }
  const double mean = std::accumulate(scores.begin(), scores.end(), 0.0) / static_cast<double>(n);
  for (double& score : scores) score -= mean;
  return scores;
}

// Subtracts the least-squares line. What is left of scores that lie on it is 0, and not rounding errors with a pattern.
void remove_line(std::span<double> values) {
  const auto n = static_cast<double>(values.size());
  const auto time = [&](size_t i) { return static_cast<double>(i) - (n - 1) / 2; };
  double mean = 0;
  double slope = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    mean += values[i] / n;
    slope += values[i] * time(i);
  }
  if (values.size() > 1) slope /= n * (n * n - 1) / 12;
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] -= mean + slope * time(i);
    if (std::abs(values[i]) < 1e-12) values[i] = 0;
  }
}

}  // namespace

std::optional<size_t> level_shift(std::span<const double> series) {
  if (series.size() < 12 || std::ranges::all_of(series, [&](double x) { return x == series[0]; })) return std::nullopt;
  const auto n = static_cast<double>(series.size());
  std::vector<double> scores = normal_scores(series);
  const double variance = std::inner_product(scores.begin(), scores.end(), scores.begin(), 0.0) / (n - 1);
  size_t split = 0;
  double largest = 0;
  double sum = 0;
  for (size_t i = 1; i < scores.size(); ++i) {
    sum += scores[i - 1];
    const auto before = static_cast<double>(i);
    const double statistic = std::abs(sum) / std::sqrt(variance * before * (n - before) / n);
    if (statistic > largest) {
      largest = statistic;
      split = i;
    }
  }
  remove_line(std::span(scores).first(split));
  remove_line(std::span(scores).subspan(split));
  const double critical = 4 - 4.6 / std::sqrt(n);
  if (largest <= critical * std::sqrt(autocorrelation_time(scores))) return std::nullopt;
  return split;
}

Steadiness find_steady_state(std::span<const double> series, double minimum_shift) {
  std::span<const double> rest = series;
  while (const std::optional<size_t> split = level_shift(rest)) {
    const double before = *median(rest.first(*split));
    const double after = *median(rest.subspan(*split));
    if (std::abs(before - after) < minimum_shift * std::abs(after)) break;
    rest = rest.subspan(*split);
    if (2 * rest.size() < series.size()) return {series.size() / 2, false};
  }
  return {series.size() - rest.size(), effective_sample_size(rest) >= 6};
}

}  // namespace triphase
