// SPDX-License-Identifier: Apache-2.0
#include "measure/summary.h"

#include <gmock/gmock.h>

namespace triphase {
namespace {

using testing::ElementsAre;
using Series = std::vector<double>;

TEST(Summary, Holds_exact_statistics_of_all_samples_and_keeps_some) {
  const auto summary = summarise(Series{5, 2, 4, 1, 6, 3}, 3);
  ASSERT_TRUE(summary);
  EXPECT_EQ(summary->median_s, 3.5);
  EXPECT_EQ(summary->min_s, 1);
  EXPECT_EQ(summary->mad_s, 1.5);
  EXPECT_EQ(summary->ci95_s, (Interval{1, 6}));
  EXPECT_EQ(summary->sample_count, 6u);
  EXPECT_THAT(summary->samples_s, ElementsAre(2, 1, 3));
}

TEST(Summary, Is_absent_without_samples_and_has_no_interval_below_6) {
  EXPECT_FALSE(summarise({}, 10));
  EXPECT_EQ(summarise(Series{1, 2, 1, 2, 1}, 10)->ci95_s, std::nullopt);
}

TEST(RatioSummary, Is_the_median_of_ratios_and_not_the_ratio_of_medians) {
  const Series backward = {2, 9, 8};
  const Series forward = {1, 2, 8};
  EXPECT_EQ(ratio_summary(backward, forward)->median, 2);  // of 2, 4.5 and 1; the medians are 8 and 2
}

TEST(RatioSummary, Is_absent_where_a_denominator_is_zero) {
  EXPECT_FALSE(ratio_summary(Series{1, 1}, Series{1, 0}));
  EXPECT_FALSE(ratio_summary({}, {}));
}

}  // namespace
}  // namespace triphase
