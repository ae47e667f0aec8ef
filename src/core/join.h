// SPDX-License-Identifier: Apache-2.0
// Lists in prose.
#pragma once

#include <string>

namespace triphase {

// {"a", "b"} -> "a, b"
template <class Words>
std::string join(const Words& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

}  // namespace triphase
