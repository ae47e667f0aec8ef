// SPDX-License-Identifier: Apache-2.0
// Shares one stretch of memory between buffers that are not alive at the same time.
#pragma once

#include <cstdint>
#include <vector>

namespace triphase {

// A buffer that holds a value from time `first` to `last`, both included.
struct Lifetime {
  int64_t bytes = 0;
  int first = 0;
  int last = 0;
};

struct Packing {
  std::vector<int64_t> offsets;  // by buffer, each a multiple of the alignment
  int64_t bytes = 0;             // of the whole stretch
};

// Largest first, each at the lowest offset that is free for its whole life: the greedy-by-size rule of Pisarchyk and
// Lee (2020). Buffers whose lives overlap never overlap in memory.
Packing pack(const std::vector<Lifetime>& buffers, int64_t alignment);

}  // namespace triphase
