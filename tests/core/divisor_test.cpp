// SPDX-License-Identifier: Apache-2.0
// Division by multiplication against division.
#include "core/divisor.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>

namespace triphase {
namespace {

void expect_divides(int64_t n, int64_t d) {
  const Divisor divisor(d);
  ASSERT_EQ(n / divisor, n / d) << n << " / " << d;
  ASSERT_EQ(n % divisor, n % d) << n << " % " << d;
  if (n > std::numeric_limits<int32_t>::max()) return;
  const auto few = static_cast<int32_t>(n);
  ASSERT_EQ(few / divisor, n / d) << n << " / " << d << " in 32 bits";
  ASSERT_EQ(few % divisor, n % d) << n << " % " << d << " in 32 bits";
}

TEST(Divisor, divides_as_division_does) {
  std::mt19937_64 engine(3);
  for (int round = 0; round < 200'000; ++round) {
    const auto any = [&] { return static_cast<int64_t>(engine() >> (1 + engine() % 62)); };
    const int64_t d = any() + 1;
    expect_divides(any(), d);
  }
}

// Where a wrong factor would show first.
TEST(Divisor, divides_around_multiples_and_at_the_ends) {
  constexpr int64_t kLargest = std::numeric_limits<int32_t>::max();
  for (const int64_t d : {int64_t{1}, int64_t{2}, int64_t{3}, int64_t{7}, int64_t{641}, int64_t{65535}, int64_t{65536},
                          int64_t{65537}, (int64_t{1} << 30) - 1, int64_t{1} << 30, (int64_t{1} << 30) + 1,
                          kLargest - 1, kLargest, kLargest + 1, int64_t{1} << 40}) {
    for (int64_t multiple = 0; multiple <= kLargest && multiple < 1000 * d; multiple += d) {
      for (const int64_t n : {multiple - 1, multiple, multiple + 1}) {
        if (n >= 0) expect_divides(n, d);
      }
    }
    for (const int64_t n : {int64_t{0}, kLargest / 2, kLargest - 1, kLargest, kLargest + 1}) expect_divides(n, d);
  }
}

TEST(Divisor, is_the_number_that_it_was_made_of) {
  EXPECT_EQ(Divisor(12), 12);
  EXPECT_EQ(5 * Divisor(12), 60);
  EXPECT_EQ((int64_t{1} << 40) * Divisor(12), int64_t{12} << 40);
}

}  // namespace
}  // namespace triphase
