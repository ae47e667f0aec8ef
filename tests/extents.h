// SPDX-License-Identifier: Apache-2.0
// Where tensors lie when nothing shares memory that need not.
#pragma once

#include <vector>

#include "backends/backend.h"

namespace triphase {

// Each tensor in memory of its own, but views, and what a step replaces.
inline std::vector<Extent> apart(const StepProgram& program) {
  std::vector<Extent> extents;
  int64_t end = 0;
  for (TensorId id = 0; id < static_cast<TensorId>(program.tensors.size()); ++id) {
    TensorId first = storage_of(program, id);
    if (const TensorId replaced = previous_version(program, first); replaced != kNoTensor) first = replaced;
    if (first < id) {
      extents.push_back(extents[static_cast<size_t>(first)]);
      continue;
    }
    extents.push_back({end, size_in_bytes(program.tensor(id).type)});
    end += extents.back().bytes;
  }
  return extents;
}

}  // namespace triphase
