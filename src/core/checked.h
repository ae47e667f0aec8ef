// SPDX-License-Identifier: Apache-2.0
// Integer arithmetic on sizes and counts that throws SizeOverflow instead of wrapping.
#pragma once

#include <cstdint>

#include "core/error.h"

namespace triphase {

inline int64_t checked_mul(int64_t a, int64_t b) {
  int64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) throw SizeOverflow();
  return product;
}

template <class... Rest>
int64_t checked_mul(int64_t a, int64_t b, Rest... rest) {
  return checked_mul(checked_mul(a, b), rest...);
}

inline int64_t checked_add(int64_t a, int64_t b) {
  int64_t sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) throw SizeOverflow();
  return sum;
}

}  // namespace triphase
