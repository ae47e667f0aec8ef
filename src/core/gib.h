// SPDX-License-Identifier: Apache-2.0
// Memory sizes in messages.
#pragma once

#include <array>
#include <cstdint>
#include <cstdio>
#include <string>

namespace triphase {

// "12.1 GiB"
inline std::string gib(int64_t bytes) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.3g GiB", static_cast<double>(bytes) / (1 << 30));
  return text.data();
}

}  // namespace triphase
