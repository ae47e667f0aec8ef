// SPDX-License-Identifier: Apache-2.0
// A tensor's logical extents, outermost first, row-major: [N, C, H, W].
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/checked.h"

namespace triphase {

using Shape = std::vector<int64_t>;

// The product of the extents; 1 for a scalar. Throws SizeOverflow.
inline int64_t element_count(const Shape& shape) {
  int64_t count = 1;
  for (const int64_t extent : shape) count = checked_mul(count, extent);
  return count;
}

// "[64, 3, 224, 224]"
inline std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (const int64_t extent : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
  return text + "]";
}

}  // namespace triphase
