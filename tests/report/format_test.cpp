// SPDX-License-Identifier: Apache-2.0
// Numbers and tables as people read them.
#include "report/format.h"

#include <gtest/gtest.h>

#include <string>

namespace triphase {
namespace {

TEST(Si, integers_below_ten_thousand_are_written_out) {
  EXPECT_EQ(si(0), "0 ");
  EXPECT_EQ(si(7), "7 ");
  EXPECT_EQ(si(9999), "9999 ");
  EXPECT_EQ(si(-42), "-42 ");
}

TEST(Si, larger_numbers_have_four_digits_and_a_prefix) {
  EXPECT_EQ(si(10000), "10.00 k");
  EXPECT_EQ(si(123456), "123.5 k");
  EXPECT_EQ(si(617092490), "617.1 M");
  EXPECT_EQ(si(1234176512), "1.234 G");
  EXPECT_EQ(si(1263796748288), "1.264 T");
  EXPECT_EQ(si(4.5e15), "4.500 P");
  EXPECT_EQ(si(9.2e18), "9.200 E");
  EXPECT_EQ(si(-1234176512), "-1.234 G");
}

TEST(Si, fractions_below_a_thousand_have_no_prefix) {
  EXPECT_EQ(si(1.5), "1.500 ");
  EXPECT_EQ(si(12.345), "12.35 ");
  EXPECT_EQ(si(0.25), "0.250 ");
}

TEST(Si, rounding_never_gives_a_fifth_digit) {
  EXPECT_EQ(si(99996), "100.0 k");
  EXPECT_EQ(si(999960), "1.000 M");
  EXPECT_EQ(si(999.97), "1.000 k");
  EXPECT_EQ(si(9.9996), "10.00 ");
  EXPECT_EQ(si(999'949'999'999), "999.9 G");
  EXPECT_EQ(si(999'950'000'000), "1.000 T");
}

TEST(Duration, has_four_digits_and_the_unit_that_suits) {
  EXPECT_EQ(duration(0), "0 s");
  EXPECT_EQ(duration(12.3456), "12.35 s");
  EXPECT_EQ(duration(1), "1.000 s");
  EXPECT_EQ(duration(0.5), "500.0 ms");
  EXPECT_EQ(duration(0.0123), "12.30 ms");
  EXPECT_EQ(duration(12.3e-6), "12.30 µs");
  EXPECT_EQ(duration(5e-9), "5.000 ns");
  EXPECT_EQ(duration(5e-12), "0.005 ns");
  EXPECT_EQ(duration(3600), "3600 s");
}

TEST(Duration, rounding_moves_to_the_next_unit) {
  EXPECT_EQ(duration(0.99996), "1.000 s");
  EXPECT_EQ(duration(0.00099996), "1.000 ms");
  EXPECT_EQ(duration(0.0999996), "100.0 ms");
}

TEST(Fixed, has_the_digits_asked_for) {
  EXPECT_EQ(fixed(1.00083, 4), "1.0008");
  EXPECT_EQ(fixed(2, 0), "2");
  EXPECT_EQ(fixed(-0.5, 3), "-0.500");
  EXPECT_EQ(fixed(1e15, 1), "1000000000000000.0");
}

TEST(Table, aligns_the_first_column_left_and_the_others_right) {
  Table table({"layer", "FLOP"});
  table.add({"fc1", "1234"});
  table.add({"a long name", "7"});
  EXPECT_EQ(table.text(),
            "layer        FLOP\n"
            "-----------------\n"
            "fc1          1234\n"
            "a long name     7\n");
}

TEST(Table, counts_characters_not_bytes) {
  Table table({"step", "time"});
  table.add({"vorwärts", "12.3 µs"});
  table.add({"update", "1.2 ms"});
  EXPECT_EQ(table.text(),
            "step         time\n"
            "-----------------\n"
            "vorwärts  12.3 µs\n"
            "update     1.2 ms\n");
}

TEST(Table, draws_rules_and_leaves_no_blanks_at_the_end) {
  Table table({"a", "b"});
  table.add({"x", "1"});
  table.add({"y", ""});
  table.rule();
  table.add({"all", "1"});
  EXPECT_EQ(table.text(),
            "a    b\n"
            "------\n"
            "x    1\n"
            "y\n"
            "------\n"
            "all  1\n");
}

TEST(Table, rows_may_be_shorter_than_the_header) {
  Table table({"a", "b", "c"});
  table.add({"x"});
  table.add({});
  EXPECT_EQ(table.text(),
            "a  b  c\n"
            "-------\n"
            "x\n"
            "\n");
}

}  // namespace
}  // namespace triphase
