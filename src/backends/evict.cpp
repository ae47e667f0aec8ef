// SPDX-License-Identifier: Apache-2.0
#include "backends/evict.h"

#ifdef __x86_64__
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace triphase {

#ifdef __x86_64__

namespace {

constexpr int64_t kLine = 64;

bool has_clflushopt() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & bit_CLFLUSHOPT) != 0;
}

__attribute__((target("clflushopt"))) void flush_unordered(const char* begin, const char* end) {
  for (const char* line = begin; line < end; line += kLine) _mm_clflushopt(const_cast<char*>(line));
}

// The older instruction, of every such processor; each waits for the one before.
void flush_in_order(const char* begin, const char* end) {
  for (const char* line = begin; line < end; line += kLine) _mm_clflush(line);
}

}  // namespace

bool can_evict() { return true; }

void evict_lines(const void* data, int64_t bytes) {
  static const bool unordered = has_clflushopt();
  const char* end = static_cast<const char*>(data) + bytes;
  const char* begin = static_cast<const char*>(data) - reinterpret_cast<uintptr_t>(data) % kLine;
  _mm_mfence();  // stores before come first
  unordered ? flush_unordered(begin, end) : flush_in_order(begin, end);
  _mm_mfence();
}

#else

bool can_evict() { return false; }
void evict_lines(const void*, int64_t) {}

#endif

}  // namespace triphase
