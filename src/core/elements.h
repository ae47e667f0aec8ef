// SPDX-License-Identifier: Apache-2.0
// Elements of an array whose type is known only at run time.
#pragma once

#include <cstdint>

#include "core/narrow.h"

namespace triphase {

// Calls f.template operator()<T>() with the C++ type of a floating-point dtype's elements.
template <class F>
auto with_float_type(DType dtype, F f) {
  switch (dtype) {
    case DType::kBF16:
      return f.template operator()<BF16>();
    case DType::kF16:
      return f.template operator()<F16>();
    default:
      return f.template operator()<float>();
  }
}

inline double load(const void* data, DType dtype, int64_t index) {
  if (dtype == DType::kS32) return static_cast<const int32_t*>(data)[index];
  if (dtype == DType::kU8) return static_cast<const uint8_t*>(data)[index];
  return with_float_type(dtype,
                         [&]<class T>() -> double { return static_cast<float>(static_cast<const T*>(data)[index]); });
}

inline void store(void* data, DType dtype, int64_t index, double value) {
  if (dtype == DType::kS32) {
    static_cast<int32_t*>(data)[index] = static_cast<int32_t>(value);
  } else if (dtype == DType::kU8) {
    static_cast<uint8_t*>(data)[index] = static_cast<uint8_t>(value);
  } else {
    with_float_type(dtype, [&]<class T>() { static_cast<T*>(data)[index] = static_cast<float>(value); });
  }
}

}  // namespace triphase
