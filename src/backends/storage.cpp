// SPDX-License-Identifier: Apache-2.0
#include "backends/storage.h"

#include "core/checked.h"

namespace triphase {
namespace {

// Where the storages that do not outlast the step lie, in their order.
Packing pack_transients(const std::vector<Storage>& storages, int64_t alignment) {
  std::vector<Lifetime> lives;
  for (const Storage& storage : storages) {
    if (!storage.persistent) lives.push_back(storage.life);
  }
  return pack(lives, alignment);
}

}  // namespace

MemoryPlan memory_plan(const std::vector<Storage>& storages, int64_t alignment) {
  MemoryPlan plan;
  for (const Storage& storage : storages) {
    if (storage.persistent) plan.persistent_bytes = checked_add(plan.persistent_bytes, storage.life.bytes);
  }
  plan.transient_bytes = pack_transients(storages, alignment).bytes;
  return plan;
}

void allocate(std::vector<Storage>& storages, int64_t alignment,
              const std::function<std::byte*(int64_t bytes)>& add_block) {
  const Packing packing = pack_transients(storages, alignment);
  std::byte* transient = add_block(packing.bytes);
  size_t next = 0;
  for (Storage& storage : storages) {
    storage.data = storage.persistent ? add_block(storage.life.bytes) : transient + packing.offsets[next++];
  }
}

}  // namespace triphase
