// SPDX-License-Identifier: Apache-2.0
// Where a series of step times leaves its warm-up. A change-point rule on ranks: fixed counts of warm-up steps fail
// (Barrett et al., Virtual Machine Warmup Blows Hot and Cold, 2017), and one outlier sways a rule on means.
#pragma once

#include <cstddef>
#include <optional>
#include <span>

namespace triphase {

// The most likely place of one shift in level, as the length of the part before it; absent if no shift is significant.
//
// Every split into before and after is a two-sample test on van der Waerden's normal scores of the ranks (Hajek and
// Sidak, Theory of Rank Tests, 1967), scaled by the autocorrelation time of what a line through either part leaves: so
// neither autocorrelation passes for a shift, nor a shift or a trend for autocorrelation. The largest statistic of all
// splits is compared with the 99.5 % quantile that it has on independent noise, 4 - 4.6 / sqrt(n) as simulated for n
// from 12 to 3000. Below 12 samples no shift can be significant.
std::optional<size_t> level_shift(std::span<const double> series);

struct Steadiness {
  size_t warmup = 0;    // leading samples to drop, at most half
  bool steady = false;  // whether the rest is long enough to tell (6 effective samples) and shows no shift
};

// Drops what lies before a level shift, and again in what is left, until no shift is found that moves the median by at
// least `minimum_shift` of itself; a slow transient goes in pieces. Does not see a noiseless drift that is still under
// way as a shift, but as too few effective samples.
Steadiness find_steady_state(std::span<const double> series, double minimum_shift);

}  // namespace triphase
