// SPDX-License-Identifier: Apache-2.0
#include "measure/summary.h"

#include <stdexcept>

#include "stats/order.h"

namespace triphase {

std::optional<Summary> summarise(std::span<const double> series_s, size_t max_kept) {
  if (series_s.empty()) return std::nullopt;
  return Summary{.median_s = *median(series_s),
                 .min_s = *minimum(series_s),
                 .mad_s = *median_absolute_deviation(series_s),
                 .ci95_s = median_interval(series_s),
                 .sample_count = series_s.size(),
                 .samples_s = thinned(series_s, max_kept)};
}

std::optional<std::vector<double>> paired_ratios(std::span<const double> numerators,
                                                 std::span<const double> denominators) {
  if (numerators.size() != denominators.size()) throw std::invalid_argument("paired_ratios: series of two lengths");
  if (numerators.empty()) return std::nullopt;
  std::vector<double> ratios;
  ratios.reserve(numerators.size());
  for (size_t i = 0; i < numerators.size(); ++i) {
    if (!(denominators[i] > 0)) return std::nullopt;
    ratios.push_back(numerators[i] / denominators[i]);
  }
  return ratios;
}

std::optional<RatioSummary> ratio_summary(std::span<const double> numerators, std::span<const double> denominators) {
  const auto ratios = paired_ratios(numerators, denominators);
  if (!ratios) return std::nullopt;
  return RatioSummary{*median(*ratios), median_interval(*ratios)};
}

}  // namespace triphase
