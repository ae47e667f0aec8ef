// SPDX-License-Identifier: Apache-2.0
// Lists in prose.
#pragma once

#include <string>
#include <vector>

namespace triphase {

// {"a", "b"} -> "a, b"
inline std::string join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

}  // namespace triphase
