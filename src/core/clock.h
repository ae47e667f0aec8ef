// SPDX-License-Identifier: Apache-2.0
// The host's clock.
#pragma once

#include <chrono>

namespace triphase {

// Seconds on the steady clock: only differences mean anything.
inline double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace triphase
