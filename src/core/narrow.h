// SPDX-License-Identifier: Apache-2.0
// The floating-point types of 16 bits, as a host and a GPU alike read and write them: kept narrow, computed with in
// f32, rounded to nearest, ties to even.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "core/dtype.h"
#include "core/host_device.h"

namespace triphase {
namespace narrow {

TRIPHASE_HOST_DEVICE inline uint32_t bits_of(float value) {
#ifdef __CUDA_ARCH__
  return __float_as_uint(value);
#else
  return std::bit_cast<uint32_t>(value);
#endif
}

TRIPHASE_HOST_DEVICE inline float float_of(uint32_t bits) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(bits);
#else
  return std::bit_cast<float>(bits);
#endif
}

}  // namespace narrow

// The upper half of an f32: 8 bits of exponent, 8 of significand.
struct BF16 {
  uint16_t bits = 0;

  BF16() = default;
  TRIPHASE_HOST_DEVICE BF16(float value) {
#ifdef __CUDA_ARCH__
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
#else
    const uint32_t all = narrow::bits_of(value);
    const bool is_nan = (all & 0x7fffffff) > 0x7f800000;
    bits = static_cast<uint16_t>((is_nan ? all | 0x400000 : all + 0x7fff + (all >> 16 & 1)) >> 16);
#endif
  }
  TRIPHASE_HOST_DEVICE operator float() const { return narrow::float_of(static_cast<uint32_t>(bits) << 16); }
};

// IEEE 754's binary16: 5 bits of exponent, 11 of significand; 65504 is the largest, 2^-24 the smallest.
struct F16 {
  uint16_t bits = 0;

  F16() = default;
  TRIPHASE_HOST_DEVICE F16(float value) {
#ifdef __CUDA_ARCH__
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
#else
    const uint32_t all = narrow::bits_of(value);
    const uint32_t magnitude = all & 0x7fffffff;
    bits = static_cast<uint16_t>((all >> 16 & 0x8000) | magnitude_bits(magnitude));
#endif
  }
  TRIPHASE_HOST_DEVICE operator float() const {
#ifdef __CUDA_ARCH__
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
#else
    const uint32_t sign = (bits & 0x8000u) << 16;
    const uint32_t magnitude = bits & 0x7fffu;
    if (magnitude < 0x400) {  // subnormal: a multiple of 2^-24
      return narrow::float_of(sign | narrow::bits_of(static_cast<float>(magnitude) * 0x1p-24f));
    }
    const uint32_t exponent_shift = magnitude >= 0x7c00 ? 0x70000000 : 0x38000000;  // infinities and NaN, or others
    return narrow::float_of(sign | ((magnitude << 13) + exponent_shift));
#endif
  }

 private:
  static uint32_t magnitude_bits(uint32_t f32) {
    if (f32 > 0x7f800000) return 0x7e00;   // NaN
    if (f32 >= 0x477ff000) return 0x7c00;  // 65520 and above round to infinity
    if (f32 < 0x38800000) {                // below 2^-14: 1/2 and its neighbours are 2^-24 apart
      return narrow::bits_of(narrow::float_of(f32) + 0.5f) - narrow::bits_of(0.5f);
    }
    return (f32 - 0x38000000 + 0xfff + (f32 >> 13 & 1)) >> 13;
  }
};

// What a tensor of that type holds of a value.
inline double rounded(double value, DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return static_cast<float>(value);
    case DType::kBF16:
      return BF16(static_cast<float>(value));
    case DType::kF16:
      return F16(static_cast<float>(value));
    case DType::kS32:
    case DType::kU8:
      return value;
  }
  return value;
}

// The largest relative error of rounding a number that is not subnormal: 2^-p for p bits of significand.
constexpr double unit_roundoff(DType dtype) {
  return dtype == DType::kBF16 ? 0x1p-8 : dtype == DType::kF16 ? 0x1p-11 : 0x1p-24;
}

// What a number that is too small to be normal may lose: f16 keeps multiples of 2^-24, the others may be flushed to 0.
constexpr double underflow(DType dtype) { return dtype == DType::kF16 ? 0x1p-25 : 0x1p-126; }

}  // namespace triphase
