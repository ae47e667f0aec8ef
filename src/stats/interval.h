// SPDX-License-Identifier: Apache-2.0
// How well a median is known, from one autocorrelated series of samples in the order they were taken. It says nothing
// about what changes only from one process to the next.
#pragma once

#include <optional>
#include <span>

namespace triphase {

struct Interval {
  double low = 0;
  double high = 0;

  bool operator==(const Interval&) const = default;
};

// The integrated autocorrelation time 1 + 2 sum rho_k, by the initial monotone sequence of Geyer (Practical Markov
// Chain Monte Carlo, 1992, section 3.3): sums of neighbouring pairs of lags are added while they are positive, none
// larger than the one before. At least 1, so negative correlation earns no credit; 1 for a constant series.
double autocorrelation_time(std::span<const double> series);

// The number of independent samples that would know the median as well as these: n / the autocorrelation time of
// sign(x - median), the process that the order statistics around the median count. No outlier can sway it.
double effective_sample_size(std::span<const double> samples);

// The 95 % interval of the median between two order statistics (binomial with 1/2; David and Nagaraja, Order
// Statistics, 2003, section 7.1), their ranks spread as for the effective number of samples. Absent below 6 effective
// samples, where not even the whole range covers 95 %.
std::optional<Interval> median_interval(std::span<const double> samples);

}  // namespace triphase
