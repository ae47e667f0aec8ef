// SPDX-License-Identifier: Apache-2.0
// Element types by their logical width.
#pragma once

#include <cstdint>
#include <string_view>

namespace triphase {

enum class DType { kF32, kBF16, kF16, kS32, kU8 };

constexpr int64_t size_in_bytes(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kS32:
      return 4;
    case DType::kBF16:
    case DType::kF16:
      return 2;
    case DType::kU8:
      return 1;
  }
  return 0;
}

constexpr std::string_view to_string(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kBF16:
      return "bf16";
    case DType::kF16:
      return "f16";
    case DType::kS32:
      return "s32";
    case DType::kU8:
      return "u8";
  }
  return "?";
}

// A floating-point type of less than single precision.
constexpr bool is_narrow(DType dtype) { return dtype == DType::kBF16 || dtype == DType::kF16; }

}  // namespace triphase
