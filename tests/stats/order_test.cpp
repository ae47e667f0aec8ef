// SPDX-License-Identifier: Apache-2.0
#include "stats/order.h"

#include <gmock/gmock.h>

namespace triphase {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Series = std::vector<double>;

TEST(Order, Median_is_the_middle_or_the_mean_of_the_two_middle_values) {
  EXPECT_EQ(median(Series{3}), 3);
  EXPECT_EQ(median(Series{9, 1, 5}), 5);
  EXPECT_EQ(median(Series{4, 1, 8, 2}), 3);
}

TEST(Order, Quantile_is_type_7) {
  const Series series = {15, 20, 35, 40, 50};  // numpy.quantile(x, 0.4) = 29
  EXPECT_DOUBLE_EQ(*quantile(series, 0.4), 29);
  EXPECT_EQ(quantile(series, 0.25), 20);
  EXPECT_EQ(quantile(series, 0), 15);
  EXPECT_EQ(quantile(series, 1), 50);
}

TEST(Order, Median_absolute_deviation_is_raw) { EXPECT_EQ(median_absolute_deviation(Series{1, 1, 2, 2, 4, 6, 9}), 1); }

TEST(Order, Empty_samples_have_no_statistics_and_bad_quantiles_are_absent) {
  EXPECT_EQ(median({}), std::nullopt);
  EXPECT_EQ(minimum({}), std::nullopt);
  EXPECT_EQ(median_absolute_deviation({}), std::nullopt);
  EXPECT_EQ(quantile(Series{1}, 1.5), std::nullopt);
  EXPECT_EQ(quantile(Series{1}, -0.5), std::nullopt);
}

TEST(Order, Thinned_keeps_the_middles_of_equal_stretches_in_order) {
  const Series series = {9, 8, 7, 6, 5, 4, 3, 2, 1};
  EXPECT_THAT(thinned(series, 3), ElementsAre(8, 5, 2));
  EXPECT_THAT(thinned(series, 1), ElementsAre(5));
  EXPECT_EQ(thinned(series, 9), series);
  EXPECT_EQ(thinned(series, 100), series);
  EXPECT_THAT(thinned(series, 0), IsEmpty());
  EXPECT_THAT(thinned({}, 5), IsEmpty());
}

}  // namespace
}  // namespace triphase
