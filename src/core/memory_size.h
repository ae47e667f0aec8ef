// SPDX-License-Identifier: Apache-2.0
// Memory sizes in messages.
#pragma once

#include <array>
#include <cstdint>
#include <cstdio>
#include <string>

namespace triphase {

// "12.1 GiB", "0.5 GiB", "20 MiB", "100 B": in the largest unit of which there is a tenth.
inline std::string memory_size(int64_t bytes) {
  constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  double count = static_cast<double>(bytes);
  size_t unit = 0;
  for (; unit + 1 < kUnits.size() && count >= 102.4; ++unit) count /= 1024;
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.3g %s", count, kUnits[unit]);
  return text.data();
}

}  // namespace triphase
