// SPDX-License-Identifier: Apache-2.0
// Empties the caches of chosen memory, line by line, by the processor's own instruction for it. That is exact (modified
// lines are written back, and every core's and the shared cache lose the line) and costs nanoseconds a line, whereas a
// sweep over other memory would have to be larger than a shared cache of hundreds of megabytes, and would still leave
// what an unknown replacement policy keeps. Addresses stay translated and code stays cached: only operands are cold.
#pragma once

#include <cstdint>

namespace triphase {

// Whether the processor can.
bool can_evict();

// Returns when every line that holds one of these bytes is in no cache; does nothing where that cannot be.
void evict_lines(const void* data, int64_t bytes);

}  // namespace triphase
