// SPDX-License-Identifier: Apache-2.0
// The running error bound: that it holds for single-precision computations of random expressions, and that it is not
// so loose that it would hide a wrong result.
#include "core/running_error.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace triphase {
namespace {

constexpr double kU = kUnitRoundoffF32;
constexpr double kFirstOrder = 1.001;  // the analysis leaves out terms of second order

TEST(RunningError, an_exact_value_has_no_error_and_a_constant_half_a_unit_in_the_last_place) {
  EXPECT_EQ(RunningError::exact(3).value(), 3);
  EXPECT_EQ(RunningError::exact(3).error(), 0);
  EXPECT_EQ(RunningError(-3).value(), -3);
  EXPECT_EQ(RunningError(-3).error(), 3 * kU);
  EXPECT_EQ(RunningError().error(), 0);
}

TEST(RunningError, an_operation_on_exact_values_errs_by_its_rounding_alone) {
  const RunningError a = RunningError::exact(6);
  const RunningError b = RunningError::exact(-1.5);
  EXPECT_EQ((a + b).error(), 4.5 * kU);
  EXPECT_EQ((a - b).error(), 7.5 * kU);
  EXPECT_EQ((a * b).error(), 9 * kU);
  EXPECT_EQ((a / b).error(), 4 * kU);
  EXPECT_EQ(sqrt(RunningError::exact(9)).error(), 3 * kU);
}

TEST(RunningError, errors_of_operands_come_through_as_calculus_says) {
  const RunningError a(2);  // error 2 u
  const RunningError b(4);  // error 4 u
  EXPECT_EQ((a + b).error(), (2 + 4) * kU + 6 * kU);
  EXPECT_EQ((b - a).error(), (2 + 4) * kU + 2 * kU);
  EXPECT_EQ((a * b).error(), 2 * (4 * kU) + 4 * (2 * kU) + 2 * kU * 4 * kU + 8 * kU);
  EXPECT_EQ((a / b).error(), (2 * kU + 0.5 * 4 * kU) / 4 + 0.5 * kU);
  EXPECT_EQ(sqrt(b).error(), 4 * kU / 2 + 2 * kU);
}

TEST(RunningError, the_root_of_an_inexact_zero_errs_by_the_root_of_its_error) {
  const RunningError zero = RunningError(1) - RunningError(1);  // 0, give or take 2 u
  EXPECT_EQ(zero.value(), 0);
  EXPECT_EQ(sqrt(zero).error(), std::sqrt(2 * kU));
}

struct Node {
  float single = 0;
  RunningError bounded;
};

bool moderate(const RunningError& x) {
  return std::isfinite(x.value()) && std::abs(x.value()) < 1e9 && (x.value() == 0 || std::abs(x.value()) > 1e-9);
}

// 200 operations on earlier results; cancellation is wanted, division by what may be zero is not.
TEST(RunningError, bounds_single_precision_over_random_expressions) {
  std::mt19937_64 engine(17);
  std::uniform_real_distribution<double> uniform(-2, 2);
  double tightest = 0;
  int compared = 0;
  for (int trial = 0; trial < 300; ++trial) {
    std::vector<Node> nodes;
    for (int i = 0; i < 8; ++i) {
      const double value = uniform(engine);
      const auto rounded = static_cast<float>(value);
      nodes.push_back(i % 2 ? Node{rounded, RunningError(value)} : Node{rounded, RunningError::exact(rounded)});
    }
    for (int i = 0; i < 200; ++i) {
      const Node a = nodes[engine() % nodes.size()];
      const Node b = nodes[engine() % nodes.size()];
      Node next;
      switch (engine() % 5) {
        case 0:
          next = {a.single + b.single, a.bounded + b.bounded};
          break;
        case 1:
          next = {a.single - b.single, a.bounded - b.bounded};
          break;
        case 2:
          next = {a.single * b.single, a.bounded * b.bounded};
          break;
        case 3:
          if (b.bounded.error() > 1e-4 * std::abs(b.bounded.value()) || b.bounded.value() == 0) continue;
          next = {a.single / b.single, a.bounded / b.bounded};
          break;
        default:
          if (a.bounded.value() <= 2 * a.bounded.error()) continue;
          next = {std::sqrt(a.single), sqrt(a.bounded)};
      }
      if (!moderate(next.bounded)) continue;
      const double error = std::abs(static_cast<double>(next.single) - next.bounded.value());
      const double doubles = 1e-12 * next.bounded.error();  // double precision's own
      ASSERT_LE(error, kFirstOrder * next.bounded.error() + doubles) << "trial " << trial << ", operation " << i;
      if (next.bounded.error() > 0) tightest = std::max(tightest, error / next.bounded.error());
      nodes.push_back(next);
      ++compared;
    }
  }
  EXPECT_GT(compared, 20000);
  EXPECT_GT(tightest, 0.9) << "a bound that is never approached is not tight";
}

TEST(RunningError, bounds_long_dot_products) {
  std::mt19937_64 engine(3);
  std::normal_distribution<float> normal;
  for (const int length : {1, 10, 100, 1000, 10000}) {
    std::vector<float> a(static_cast<size_t>(length));
    std::vector<float> b(a.size());
    for (size_t i = 0; i < a.size(); ++i) a[i] = normal(engine), b[i] = normal(engine);
    float forwards = 0;
    RunningError bounded = RunningError::exact(0);
    for (size_t i = 0; i < a.size(); ++i) {
      forwards += a[i] * b[i];
      bounded += RunningError::exact(a[i]) * RunningError::exact(b[i]);
    }
    EXPECT_LE(std::abs(static_cast<double>(forwards) - bounded.value()), kFirstOrder * bounded.error()) << length;
    EXPECT_LT(bounded.error(), kU * length * length) << "growth no worse than the length's square";
  }
}

}  // namespace
}  // namespace triphase
