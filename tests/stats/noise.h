// SPDX-License-Identifier: Apache-2.0
// Noise with a known median of 0, the same on every machine.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "core/random.h"

namespace triphase {

// Standard normal, x[i] = phi x[i-1] + sqrt(1 - phi^2) e[i]; independent for phi = 0.
inline std::vector<double> autoregressive(uint64_t seed, size_t count, double phi) {
  const uint64_t stream = random_stream("autoregressive", seed);
  std::vector<double> series(count);
  for (size_t i = 0; i < count; ++i) {
    const double fresh = random_normal(stream, i);
    series[i] = i == 0 ? fresh : phi * series[i - 1] + std::sqrt(1 - phi * phi) * fresh;
  }
  return series;
}

}  // namespace triphase
