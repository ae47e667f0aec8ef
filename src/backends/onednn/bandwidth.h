// SPDX-License-Identifier: Apache-2.0
// Loops that only move memory. Each thread of the pool goes over its own stretch `repeats` times within one parallel
// region, so that small stretches do not measure the region. `count` floats a pointer, of all threads together.
#pragma once

#include <cstdint>

namespace triphase {

void read_floats(const float* x, int64_t count, int64_t repeats);
void write_floats(float* y, int64_t count, int64_t repeats);
// By stores that pass the caches by. False where this instruction set has none.
bool stream_floats(float* y, int64_t count, int64_t repeats);
void copy_floats(const float* x, float* y, int64_t count, int64_t repeats);
// w -= 1e-9 g
void update_floats(float* w, const float* g, int64_t count, int64_t repeats);
void empty_region();

// Pushes memory out of every cache, each thread a part; see backends/evict.h.
void evict_by_threads(const void* data, int64_t bytes);

}  // namespace triphase
