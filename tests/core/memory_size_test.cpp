// SPDX-License-Identifier: Apache-2.0
#include "core/memory_size.h"

#include <gtest/gtest.h>

#include <limits>

namespace triphase {
namespace {

TEST(MemorySize, is_in_the_largest_unit_of_which_there_is_a_tenth) {
  EXPECT_EQ(memory_size(0), "0 B");
  EXPECT_EQ(memory_size(102), "102 B");
  EXPECT_EQ(memory_size(103), "0.101 KiB");
  EXPECT_EQ(memory_size(4096), "4 KiB");
  EXPECT_EQ(memory_size(20 << 20), "20 MiB");
  EXPECT_EQ(memory_size(512 << 20), "0.5 GiB");
  EXPECT_EQ(memory_size(int64_t{3} << 38), "0.75 TiB");
  EXPECT_EQ(memory_size(std::numeric_limits<int64_t>::max()), "8.39e+06 TiB");
}

}  // namespace
}  // namespace triphase
