// SPDX-License-Identifier: Apache-2.0
// The host's clock.
#pragma once

#include <algorithm>
#include <chrono>
#include <limits>

namespace triphase {

// Seconds on the steady clock: only differences mean anything.
inline double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The least time that two readings of this clock are apart, where they are.
inline double clock_tick_s() {
  constexpr int kSteps = 50;
  double least_s = std::numeric_limits<double>::infinity();
  double last_s = now_s();
  for (int steps = 0; steps < kSteps;) {
    const double time_s = now_s();
    if (time_s == last_s) continue;
    least_s = std::min(least_s, time_s - last_s);
    last_s = time_s;
    ++steps;
  }
  return least_s;
}

}  // namespace triphase
