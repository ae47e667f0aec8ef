// SPDX-License-Identifier: Apache-2.0
#include "backends/storage.h"

#include <algorithm>

#include "core/checked.h"

namespace triphase {

void place(std::vector<Storage>& storages, int64_t alignment) {
  std::vector<Lifetime> lives;
  for (const Storage& storage : storages) {
    if (!storage.persistent) lives.push_back(storage.life);
  }
  const Packing packing = pack(lives, alignment);
  int64_t end = packing.bytes;
  size_t next = 0;
  for (Storage& storage : storages) {
    storage.offset = storage.persistent ? end : packing.offsets[next++];
    if (storage.persistent) end = checked_add(end, storage.life.bytes);
  }
}

MemoryPlan memory_plan(const std::vector<Storage>& storages) {
  MemoryPlan plan;
  for (const Storage& storage : storages) {
    if (storage.persistent) {
      plan.persistent_bytes += storage.life.bytes;
    } else {
      plan.transient_bytes = std::max(plan.transient_bytes, storage.offset + storage.life.bytes);
    }
  }
  return plan;
}

void allocate(std::vector<Storage>& storages, const std::function<std::byte*(int64_t bytes)>& add_block) {
  std::byte* shared = add_block(memory_plan(storages).transient_bytes);
  for (Storage& storage : storages) {
    storage.data = storage.persistent ? add_block(storage.life.bytes) : shared + storage.offset;
  }
}

}  // namespace triphase
