// SPDX-License-Identifier: Apache-2.0
// Ceilings made up for a test.
#pragma once

#include <string>

#include "measure/ceilings.h"

namespace triphase {

// One of f32 arithmetic, of bytes a second at a level and working set, or of seconds.
inline Ceiling rate(std::string kernel, std::string level, int64_t set, double value, bool latency = false) {
  Ceiling c;
  c.kernel = std::move(kernel);
  c.level = std::move(level);
  c.working_set_bytes = set;
  c.value = value;
  c.best = value;
  c.latency = latency;
  if (c.kernel == "gemm" || c.kernel == "convolution") c.dtype = "f32";
  return c;
}

}  // namespace triphase
