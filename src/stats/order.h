// SPDX-License-Identifier: Apache-2.0
// Order statistics of a sample. Values are finite; what is undefined is absent, never NaN.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

namespace triphase {

// The p-quantile, linear between order statistics: type 7 of Hyndman and Fan (1996), as in R and NumPy.
// Absent for an empty sample and for p outside [0, 1].
std::optional<double> quantile(std::span<const double> samples, double p);

// The 0.5-quantile.
std::optional<double> median(std::span<const double> samples);

// median |x - median(x)|, raw: multiply by 1.4826 for the standard deviation of a normal distribution.
std::optional<double> median_absolute_deviation(std::span<const double> samples);

std::optional<double> minimum(std::span<const double> samples);

// At most `max_count` of the samples, in their order: the middle ones of as many equal stretches.
std::vector<double> thinned(std::span<const double> samples, size_t max_count);

}  // namespace triphase
