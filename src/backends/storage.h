// SPDX-License-Identifier: Apache-2.0
// The memory of a plan's tensors, whichever device it is on: what lasts has a block each, the rest shares one stretch
// by liveness.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "backends/backend.h"
#include "program/liveness.h"

namespace triphase {

// Where one tensor, or several that alias, lie. Time is counted in groups.
struct Storage {
  Lifetime life;
  bool persistent = false;    // outlasts the step
  int64_t offset = 0;         // among all, once placed: in the shared stretch, or behind it
  std::byte* data = nullptr;  // once allocated

  Extent extent() const { return {offset, life.bytes}; }
};

// Gives every storage its offset.
void place(std::vector<Storage>& storages, int64_t alignment);

// What allocate() takes for placed storages, beside the scratch.
MemoryPlan memory_plan(const std::vector<Storage>& storages);

// Gives every placed storage its address; `add_block` allocates so many bytes.
void allocate(std::vector<Storage>& storages, const std::function<std::byte*(int64_t bytes)>& add_block);

}  // namespace triphase
