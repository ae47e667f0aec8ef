// SPDX-License-Identifier: Apache-2.0
// The counting scalar: what is one operation, what is none, and that the value is that of a double.
#include "core/counted.h"

#include <gtest/gtest.h>

#include <thread>

namespace triphase {
namespace {

template <class F>
int64_t operations(F f) {
  const int64_t before = Counted::count();
  f();
  return Counted::count() - before;
}

TEST(Counted, each_operator_function_and_comparison_is_one_operation) {
  Counted a = 3.0;
  const Counted b = 4.0;
  EXPECT_EQ(operations([&] { a = a + b; }), 1);
  EXPECT_EQ(operations([&] { a = a - b; }), 1);
  EXPECT_EQ(operations([&] { a = a * b; }), 1);
  EXPECT_EQ(operations([&] { a = a / b; }), 1);
  EXPECT_EQ(operations([&] { a += b; }), 1);
  EXPECT_EQ(operations([&] { a -= b; }), 1);
  EXPECT_EQ(operations([&] { a *= b; }), 1);
  EXPECT_EQ(operations([&] { a = sqrt(b); }), 1);
  EXPECT_EQ(operations([&] { a = exp(b); }), 1);
  EXPECT_EQ(operations([&] { a = log(b); }), 1);
  bool greater = false;
  EXPECT_EQ(operations([&] { greater = a > b; }), 1);
  EXPECT_FALSE(greater);
}

TEST(Counted, copies_constants_and_reading_the_value_are_none) {
  EXPECT_EQ(operations([] {
              const Counted a = 3.0;
              Counted b = a;
              b = 5.0;
              EXPECT_EQ(b.value(), 5.0);
              EXPECT_EQ(Counted().value(), 0.0);
            }),
            0);
}

TEST(Counted, an_expression_has_as_many_operations_as_operators_and_the_value_of_doubles) {
  const Counted x = 1.25;
  Counted y;
  EXPECT_EQ(operations([&] { y = (x * x + Counted(3.0)) / sqrt(x) - exp(x) * log(x); }), 8);
  EXPECT_EQ(y.value(), (1.25 * 1.25 + 3.0) / std::sqrt(1.25) - std::exp(1.25) * std::log(1.25));
}

TEST(Counted, threads_count_apart) {
  EXPECT_EQ(operations([] {
              std::thread other([] { EXPECT_EQ(operations([] { Counted(1.0) + Counted(2.0); }), 1); });
              other.join();
            }),
            0);
}

}  // namespace
}  // namespace triphase
