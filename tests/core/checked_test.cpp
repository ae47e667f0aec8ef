// SPDX-License-Identifier: Apache-2.0
// Sizes that never wrap, and the small vocabulary beside them: shapes, element types, phases, messages.
#include "core/checked.h"

#include <gtest/gtest.h>

#include <random>

#include "core/dtype.h"
#include "core/phase.h"
#include "core/shape.h"

namespace triphase {
namespace {

constexpr int64_t kMost = INT64_MAX;

TEST(Checked, products_and_sums_are_exact_up_to_the_largest_integer) {
  EXPECT_EQ(checked_mul(int64_t{1} << 31, int64_t{1} << 31), int64_t{1} << 62);
  EXPECT_EQ(checked_mul(kMost, 1), kMost);
  EXPECT_EQ(checked_mul(kMost, 0), 0);
  EXPECT_EQ(checked_mul(7, -3), -21);
  EXPECT_EQ(checked_mul(2, 3, 5, 7, 11), 2310);
  EXPECT_EQ(checked_add(kMost - 1, 1), kMost);
  EXPECT_EQ(checked_add(kMost, -1), kMost - 1);
}

TEST(Checked, what_does_not_fit_throws_instead_of_wrapping) {
  EXPECT_THROW(checked_mul(int64_t{1} << 32, int64_t{1} << 31), SizeOverflow);
  EXPECT_THROW(checked_mul(kMost, 2), SizeOverflow);
  EXPECT_THROW(checked_mul(kMost, kMost, 0), SizeOverflow) << "a factor 0 that comes late does not heal it";
  EXPECT_THROW(checked_add(kMost, 1), SizeOverflow);
  EXPECT_THROW(checked_add(INT64_MIN, -1), SizeOverflow);
}

TEST(Checked, random_products_agree_with_128_bits) {
  std::mt19937_64 engine(1);
  int overflows = 0;
  for (int i = 0; i < 10000; ++i) {
    const auto a = static_cast<int64_t>(engine() >> (1 + engine() % 63));
    const auto b = static_cast<int64_t>(engine() >> (1 + engine() % 63));
    const long double exact = static_cast<long double>(a) * static_cast<long double>(b);
    if (exact > static_cast<long double>(kMost)) {
      ++overflows;
      EXPECT_THROW(checked_mul(a, b), SizeOverflow) << a << " x " << b;
    } else {
      EXPECT_EQ(static_cast<long double>(checked_mul(a, b)), exact) << a << " x " << b;
    }
  }
  EXPECT_GT(overflows, 1000);
  EXPECT_LT(overflows, 9000);
}

TEST(Shape, a_scalar_has_one_element_and_an_extent_of_zero_none) {
  EXPECT_EQ(element_count({}), 1);
  EXPECT_EQ(element_count({64, 3, 224, 224}), 9633792);
  EXPECT_EQ(element_count({5, 0}), 0);
  EXPECT_THROW(element_count({int64_t{1} << 40, int64_t{1} << 40}), SizeOverflow);
}

TEST(Shape, text_is_a_list_in_brackets) {
  EXPECT_EQ(to_string(Shape{}), "[]");
  EXPECT_EQ(to_string(Shape{7}), "[7]");
  EXPECT_EQ(to_string(Shape{64, 3, 224, 224}), "[64, 3, 224, 224]");
}

TEST(DType, widths_are_logical) {
  EXPECT_EQ(size_in_bytes(DType::kF32), 4);
  EXPECT_EQ(size_in_bytes(DType::kS32), 4);
  EXPECT_EQ(size_in_bytes(DType::kU8), 1);
  EXPECT_EQ(to_string(DType::kF32), "f32");
  EXPECT_EQ(to_string(DType::kS32), "s32");
  EXPECT_EQ(to_string(DType::kU8), "u8");
}

TEST(Phase, backward_is_towards_the_data_and_towards_the_weights) {
  std::string names;
  int backward = 0;
  for (const Phase phase : kAllPhases) {
    names += std::string(to_string(phase)) + " ";
    backward += is_backward(phase);
  }
  EXPECT_EQ(names, "forward backward_data backward_weights update ");
  EXPECT_EQ(backward, 2);
  EXPECT_TRUE(is_backward(Phase::kBackwardData));
  EXPECT_TRUE(is_backward(Phase::kBackwardWeights));
}

TEST(Error, a_message_says_where_what_was_expected_and_what_was_found) {
  EXPECT_STREQ(InputError("$.batch", "an integer", "'x'").what(), "$.batch: expected an integer, found 'x'");
  EXPECT_STREQ(InputError("a.json", "too long").what(), "a.json: too long");
  EXPECT_STREQ(SizeOverflow().what(), "a size beyond 2^63 - 1");
}

}  // namespace
}  // namespace triphase
