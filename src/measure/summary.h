// SPDX-License-Identifier: Apache-2.0
// The statistics of one row: what a series of times comes to. Undefined numbers are absent.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "stats/interval.h"

namespace triphase {

struct Summary {
  double median_s = 0;
  double min_s = 0;
  double mad_s = 0;                // median absolute deviation, raw
  std::optional<Interval> ci95_s;  // of the median
  size_t sample_count = 0;
  std::vector<double> samples_s;  // at most max_kept of them, thinned evenly
};

// Absent without samples. Series of one length are thinned alike, so paired series stay paired.
std::optional<Summary> summarise(std::span<const double> series_s, size_t max_kept);

struct RatioSummary {
  double median = 0;
  std::optional<Interval> ci95;
};

// Element by element. Absent if empty, or if a denominator is not above 0. Both series have one length.
std::optional<std::vector<double>> paired_ratios(std::span<const double> numerators,
                                                 std::span<const double> denominators);

// The median of the paired ratios; absent where they are.
std::optional<RatioSummary> ratio_summary(std::span<const double> numerators, std::span<const double> denominators);

}  // namespace triphase
