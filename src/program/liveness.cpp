// SPDX-License-Identifier: Apache-2.0
#include "program/liveness.h"

#include <algorithm>
#include <numeric>

#include "core/checked.h"

namespace triphase {

Packing pack(const std::vector<Lifetime>& buffers, int64_t alignment) {
  const auto aligned = [&](int64_t bytes) { return checked_add(bytes, alignment - 1) / alignment * alignment; };
  std::vector<size_t> order(buffers.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, [&](size_t a, size_t b) { return buffers[a].bytes > buffers[b].bytes; });

  Packing packing;
  packing.offsets.resize(buffers.size());
  std::vector<size_t> placed;  // by offset
  for (const size_t i : order) {
    int64_t offset = 0;
    for (const size_t other : placed) {
      const bool alive_together = buffers[i].first <= buffers[other].last && buffers[other].first <= buffers[i].last;
      if (!alive_together) continue;
      if (offset + buffers[i].bytes <= packing.offsets[other]) break;  // the gap before it is wide enough
      offset = std::max(offset, aligned(packing.offsets[other] + buffers[other].bytes));
    }
    packing.offsets[i] = offset;
    packing.bytes = std::max(packing.bytes, checked_add(offset, buffers[i].bytes));
    const auto after = std::ranges::upper_bound(placed, offset, {}, [&](size_t p) { return packing.offsets[p]; });
    placed.insert(after, i);
  }
  return packing;
}

}  // namespace triphase
