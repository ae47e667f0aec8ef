// SPDX-License-Identifier: Apache-2.0
// What the libraries in NVIDIA's place do with single numbers and addresses.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/elements.h"

namespace fake_gpu {

inline bool aligned(const void* data, int64_t to) {
  return reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(to) == 0;
}

// Rounded to the 11 bits of significand that TF32 has.
inline double in_tf32(double value) {
  if (value == 0 || !std::isfinite(value)) return value;
  const double unit = std::ldexp(1, std::ilogb(value) - 10);
  return std::nearbyint(value / unit) * unit;
}

}  // namespace fake_gpu
