// SPDX-License-Identifier: Apache-2.0
// Element types by their logical width.
#pragma once

#include <cstdint>
#include <string_view>

namespace triphase {

enum class DType { kF32, kS32, kU8 };

constexpr int64_t size_in_bytes(DType dtype) { return dtype == DType::kU8 ? 1 : 4; }

constexpr std::string_view to_string(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kS32:
      return "s32";
    case DType::kU8:
      return "u8";
  }
  return "?";
}

}  // namespace triphase
