// SPDX-License-Identifier: Apache-2.0
#include "stats/order.h"

#include <algorithm>
#include <cmath>

namespace triphase {

std::optional<double> quantile(std::span<const double> samples, double p) {
  if (samples.empty() || !(p >= 0 && p <= 1)) return std::nullopt;
  std::vector<double> values(samples.begin(), samples.end());
  const double position = p * static_cast<double>(values.size() - 1);
  const auto lower = values.begin() + static_cast<std::ptrdiff_t>(position);
  std::nth_element(values.begin(), lower, values.end());
  const double fraction = position - std::floor(position);
  if (fraction == 0) return *lower;
  const double upper = *std::min_element(lower + 1, values.end());
  return *lower + fraction * (upper - *lower);
}

std::optional<double> median(std::span<const double> samples) { return quantile(samples, 0.5); }

std::optional<double> median_absolute_deviation(std::span<const double> samples) {
  const std::optional<double> centre = median(samples);
  if (!centre) return std::nullopt;
  std::vector<double> deviations;
  deviations.reserve(samples.size());
  for (const double x : samples) deviations.push_back(std::abs(x - *centre));
  return median(deviations);
}

std::optional<double> minimum(std::span<const double> samples) { return quantile(samples, 0); }

std::vector<double> thinned(std::span<const double> samples, size_t max_count) {
  const size_t count = std::min(samples.size(), max_count);
  std::vector<double> kept;
  kept.reserve(count);
  for (size_t i = 0; i < count; ++i) kept.push_back(samples[(2 * i + 1) * samples.size() / (2 * count)]);
  return kept;
}

}  // namespace triphase
