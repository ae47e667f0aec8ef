// SPDX-License-Identifier: Apache-2.0
// Memory shared by liveness: facts about small cases, and what must hold for any.
#include "program/liveness.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "core/error.h"

namespace triphase {
namespace {

bool alive_together(const Lifetime& a, const Lifetime& b) { return a.first <= b.last && b.first <= a.last; }

// The most bytes alive at one time: no packing takes less.
int64_t most_alive(const std::vector<Lifetime>& buffers) {
  int64_t most = 0;
  for (const Lifetime& at : buffers) {
    int64_t sum = 0;
    for (const Lifetime& other : buffers) {
      sum += other.first <= at.first && at.first <= other.last ? other.bytes : 0;
    }
    most = std::max(most, sum);
  }
  return most;
}

TEST(Pack, nothing_takes_nothing) {
  EXPECT_EQ(pack({}, 64).bytes, 0);
  EXPECT_TRUE(pack({}, 64).offsets.empty());
}

TEST(Pack, disjoint_lives_share_one_place) {
  const Packing packing = pack({{100, 0, 1}, {80, 2, 3}, {90, 4, 4}}, 1);
  EXPECT_EQ(packing.offsets, (std::vector<int64_t>{0, 0, 0}));
  EXPECT_EQ(packing.bytes, 100);
}

TEST(Pack, lives_that_touch_at_one_time_do_not_share) {
  const Packing packing = pack({{100, 0, 2}, {80, 2, 3}}, 1);
  EXPECT_EQ(packing.offsets, (std::vector<int64_t>{0, 100}));
  EXPECT_EQ(packing.bytes, 180);
}

TEST(Pack, offsets_are_aligned_and_the_end_is_not_padded) {
  const Packing packing = pack({{100, 0, 1}, {70, 0, 1}, {1, 0, 1}}, 64);
  EXPECT_EQ(packing.offsets, (std::vector<int64_t>{0, 128, 256}));
  EXPECT_EQ(packing.bytes, 257);
}

TEST(Pack, a_gap_that_is_wide_enough_is_filled) {
  // The second and third are placed above the first; once it is dead, its place is free for the fourth.
  const Packing packing = pack({{100, 0, 1}, {90, 0, 5}, {80, 3, 5}}, 1);
  EXPECT_EQ(packing.offsets, (std::vector<int64_t>{0, 100, 0}));
  EXPECT_EQ(packing.bytes, 190);
}

TEST(Pack, buffers_of_no_bytes_take_no_room) { EXPECT_EQ(pack({{0, 0, 9}, {64, 0, 9}, {0, 2, 3}}, 64).bytes, 64); }

TEST(Pack, sizes_that_overflow_throw) {
  EXPECT_THROW(pack({{INT64_MAX - 10, 0, 1}, {INT64_MAX - 10, 0, 1}}, 64), SizeOverflow);
}

TEST(Pack, random_buffers_alive_together_never_overlap) {
  std::mt19937_64 engine(31);
  for (int trial = 0; trial < 300; ++trial) {
    const int64_t alignment = int64_t{1} << (engine() % 8);
    std::vector<Lifetime> buffers(1 + engine() % 60);
    for (Lifetime& buffer : buffers) {
      buffer.bytes = 1 + static_cast<int64_t>(engine() % (engine() % 4 == 0 ? 100000 : 500));
      buffer.first = static_cast<int>(engine() % 50);
      buffer.last = buffer.first + static_cast<int>(engine() % 20);
    }
    const Packing packing = pack(buffers, alignment);
    ASSERT_EQ(packing.offsets.size(), buffers.size());
    int64_t end = 0;
    int64_t sum = 0;
    for (size_t i = 0; i < buffers.size(); ++i) {
      EXPECT_GE(packing.offsets[i], 0);
      EXPECT_EQ(packing.offsets[i] % alignment, 0);
      end = std::max(end, packing.offsets[i] + buffers[i].bytes);
      sum += buffers[i].bytes + alignment - 1;
      for (size_t j = 0; j < i; ++j) {
        if (!alive_together(buffers[i], buffers[j])) continue;
        const bool apart = packing.offsets[i] + buffers[i].bytes <= packing.offsets[j] ||
                           packing.offsets[j] + buffers[j].bytes <= packing.offsets[i];
        ASSERT_TRUE(apart) << "trial " << trial << ": buffers " << j << " and " << i;
      }
    }
    EXPECT_EQ(packing.bytes, end);
    EXPECT_GE(packing.bytes, most_alive(buffers));
    EXPECT_LE(packing.bytes, sum);
  }
}

// The lives of a network's activations: written going forward, dropped going back. The rule is then optimal.
TEST(Pack, nested_lives_take_what_is_alive_at_the_turn) {
  std::vector<Lifetime> buffers;
  int64_t sum = 0;
  for (int i = 0; i < 20; ++i) {
    buffers.push_back({64 * (1 + (i * 7) % 11), i, 40 - i});
    sum += buffers.back().bytes;
  }
  EXPECT_EQ(pack(buffers, 64).bytes, sum);
  EXPECT_EQ(most_alive(buffers), sum);
}

}  // namespace
}  // namespace triphase
