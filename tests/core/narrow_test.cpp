// SPDX-License-Identifier: Apache-2.0
#include "core/narrow.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "core/elements.h"

namespace triphase {
namespace {

constexpr DType kNarrow[] = {DType::kBF16, DType::kF16};

// The value of bits in a format of so many bits of significand, by its definition.
double value_of(uint32_t bits, int significand) {
  const int fraction_bits = significand - 1;
  const int exponent_bits = 15 - fraction_bits;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const double sign = bits & 0x8000 ? -1 : 1;
  const auto exponent = static_cast<int>((bits & 0x7fff) >> fraction_bits);
  const double fraction = std::ldexp(bits & ((1u << fraction_bits) - 1), -fraction_bits);
  if (exponent == (1 << exponent_bits) - 1) return fraction != 0 ? std::nan("") : sign * INFINITY;
  return sign * std::ldexp(exponent == 0 ? fraction : 1 + fraction, std::max(exponent, 1) - bias);
}

template <class Narrow>
void expect_every_value(int significand) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    Narrow narrow;
    narrow.bits = static_cast<uint16_t>(bits);
    const auto value = static_cast<float>(narrow);
    const double expected = value_of(bits, significand);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(value) && std::isnan(static_cast<float>(Narrow(value)))) << bits;
      continue;
    }
    EXPECT_EQ(value, expected) << bits;
    EXPECT_EQ(Narrow(value).bits, bits);
  }
}

// Of all f32 between two neighbours, the midpoint goes to the even one, every other to the nearer.
template <class Narrow>
void expect_rounding_to_nearest() {
  for (uint32_t bits = 0; bits < 0x7bff; bits += 3) {  // up to f16's largest but one
    Narrow below, above;
    below.bits = static_cast<uint16_t>(bits);
    above.bits = static_cast<uint16_t>(bits + 1);
    const float middle = (static_cast<float>(below) + static_cast<float>(above)) / 2;
    if (!std::isnormal(middle)) continue;
    EXPECT_EQ(Narrow(middle).bits, bits + bits % 2) << bits;
    EXPECT_EQ(Narrow(std::nextafter(middle, 0.0f)).bits, bits);
    EXPECT_EQ(Narrow(std::nextafter(middle, INFINITY)).bits, bits + 1);
    EXPECT_EQ(Narrow(-std::nextafter(middle, INFINITY)).bits, (bits + 1) | 0x8000);
  }
}

TEST(Narrow, every_value_is_read_as_its_format_says_and_kept) {
  expect_every_value<BF16>(8);
  expect_every_value<F16>(11);
}

TEST(Narrow, rounds_to_nearest_even) {
  expect_rounding_to_nearest<BF16>();
  expect_rounding_to_nearest<F16>();
}

TEST(Narrow, what_is_too_large_becomes_infinite_and_what_is_too_small_zero) {
  EXPECT_EQ(rounded(65504, DType::kF16), 65504);
  EXPECT_EQ(rounded(65519.9, DType::kF16), 65504);
  EXPECT_EQ(rounded(65520, DType::kF16), INFINITY);
  EXPECT_EQ(rounded(-1e30, DType::kF16), -INFINITY);
  EXPECT_EQ(rounded(0x1p-24, DType::kF16), 0x1p-24);
  EXPECT_EQ(rounded(0x1p-25, DType::kF16), 0);
  EXPECT_EQ(rounded(0x1.01p-25, DType::kF16), 0x1p-24);
  EXPECT_EQ(rounded(3.4e38, DType::kBF16), INFINITY);
  EXPECT_EQ(rounded(3.38e38, DType::kBF16), 0x1.fcp+127);
}

TEST(Narrow, a_rounding_moves_no_number_by_more_than_the_unit_roundoff_and_underflow) {
  std::mt19937_64 engine(5);
  std::uniform_real_distribution<double> exponent(-30, 15);
  for (int i = 0; i < 100'000; ++i) {
    const double value = std::exp2(exponent(engine)) * (i % 2 == 0 ? 1 : -1);
    for (const DType dtype : kNarrow) {
      EXPECT_LE(std::abs(rounded(value, dtype) - value), unit_roundoff(dtype) * std::abs(value) + underflow(dtype));
    }
  }
}

TEST(Narrow, elements_are_stored_as_they_are_rounded) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    double data[4] = {};
    store(data, dtype, 1, 1.0 / 3);
    EXPECT_EQ(load(data, dtype, 1), rounded(1.0 / 3, dtype));
    EXPECT_EQ(load(data, dtype, 0), 0);
    EXPECT_EQ(load(data, dtype, 2), 0);
    EXPECT_EQ(size_in_bytes(dtype), is_narrow(dtype) ? 2 : 4);
  }
  int32_t integers[2] = {};
  store(integers, DType::kS32, 1, -7);
  EXPECT_EQ(load(integers, DType::kS32, 1), -7);
  uint8_t bytes[2] = {};
  store(bytes, DType::kU8, 1, 200);
  EXPECT_EQ(load(bytes, DType::kU8, 1), 200);
}

}  // namespace
}  // namespace triphase
