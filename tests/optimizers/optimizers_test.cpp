// SPDX-License-Identifier: Apache-2.0
// Optimizers: what a step costs, and that it is the published step.
#include "optimizers/optimizers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "core/error.h"
#include "ops/cost.h"

namespace triphase {
namespace {

const std::map<std::string, int64_t> kFlop = {{"sgd", 2},     {"momentum", 4}, {"nesterov", 6}, {"adagrad", 7},
                                              {"rmsprop", 9}, {"adam", 13},    {"adamw", 15}};
const std::map<std::string, int64_t> kBytes = {{"sgd", 12},     {"momentum", 20}, {"nesterov", 20}, {"adagrad", 20},
                                               {"rmsprop", 20}, {"adam", 28},     {"adamw", 28}};
const std::map<std::string, int> kStates = {{"sgd", 0},     {"momentum", 1}, {"nesterov", 1}, {"adagrad", 1},
                                            {"rmsprop", 1}, {"adam", 2},     {"adamw", 2}};

Cost update_cost(const Optimizer& optimizer, const Shape& shape) {
  std::vector<TensorType> inputs = {
      {shape, DType::kF32},
      {shape, DType::kF32},
      {{static_cast<int64_t>(step_scalars(optimizer, 1).size())}, DType::kF32},
  };
  for (int i = 0; i < state_count(optimizer); ++i) inputs.push_back({shape, DType::kF32});
  const OpKind update = Update{optimizer};
  return cost(update, inputs, infer(update, inputs));
}

TEST(Optimizers, flop_per_parameter_are_2_4_6_7_9_13_15) {
  for (const auto& [name, flop] : kFlop) EXPECT_EQ(flop_per_parameter(optimizer_named(name)), flop) << name;
  EXPECT_EQ(kFlop.size(), std::variant_size_v<Optimizer>);
}

TEST(Optimizers, bytes_per_parameter_are_12_20_20_20_20_28_28) {
  for (const auto& [name, bytes] : kBytes) {
    EXPECT_EQ(update_cost(optimizer_named(name), {1}).traffic_bytes, bytes) << name;
    EXPECT_EQ(update_cost(optimizer_named(name), {4096, 128}).traffic_bytes, bytes * 4096 * 128) << name;
  }
}

TEST(Optimizers, flop_of_an_update_are_alike_under_all_three_conventions) {
  for (const auto& [name, flop] : kFlop) {
    const Cost cost = update_cost(optimizer_named(name), {10, 7});
    EXPECT_EQ(cost.flop, flop * 70) << name;
    EXPECT_EQ(cost.flop_unpadded, flop * 70) << name;
    EXPECT_EQ(cost.flop_executed, flop * 70) << name;
  }
}

TEST(Optimizers, names_and_states_are_those_of_the_list) {
  for (const auto& [name, states] : kStates) {
    EXPECT_EQ(name_of(optimizer_named(name)), name);
    EXPECT_EQ(state_count(optimizer_named(name)), states) << name;
  }
}

TEST(Optimizers, an_unknown_name_is_answered_with_all_names) {
  try {
    optimizer_named("adma");
    FAIL() << "accepted";
  } catch (const InputError& error) {
    EXPECT_STREQ(error.what(),
                 "optimizer: expected one of sgd, momentum, nesterov, adagrad, rmsprop, adam, adamw, found 'adma'");
  }
  EXPECT_THROW(optimizer_named(""), InputError);
  EXPECT_THROW(optimizer_named("SGD"), InputError) << "optimizers are written in lower case";
}

TEST(Optimizers, with_learning_rate_changes_that_alone) {
  for (const auto& [name, unused] : kFlop) {
    const Optimizer standard = optimizer_named(name);
    const Optimizer changed = with_learning_rate(standard, 0.5);
    EXPECT_EQ(name_of(changed), name);
    const double rate = std::visit([](const auto& o) { return o.learning_rate; }, standard);
    const std::vector<double> before = step_scalars(standard, 3);
    const std::vector<double> after = step_scalars(changed, 3);
    ASSERT_EQ(before.size(), after.size());
    EXPECT_DOUBLE_EQ(after[0] / before[0], 0.5 / rate) << name;
    if (before.size() > 1) {
      EXPECT_EQ(after[1], before[1]) << name << ": a correction does not depend on the rate";
    }
    if (before.size() > 2) {
      EXPECT_DOUBLE_EQ(after[2] / before[2], 0.5 / rate) << name;
    }
  }
}

TEST(Optimizers, a_learning_rate_of_zero_leaves_every_weight) {
  for (const auto& [name, unused] : kFlop) {
    const Optimizer frozen = with_learning_rate(optimizer_named(name), 0);
    const std::vector<double> scalars = step_scalars(frozen, 1);
    double weight = 1.25;
    double state[2] = {0, 0};
    std::visit([&](const auto& o) { o.step(weight, -3.0, state, scalars.data()); }, frozen);
    EXPECT_EQ(weight, 1.25) << name;
  }
}

TEST(Optimizers, only_the_scalars_of_adam_and_adamw_depend_on_the_step) {
  for (const auto& [name, unused] : kFlop) {
    const Optimizer optimizer = optimizer_named(name);
    const bool varies = step_scalars(optimizer, 1) != step_scalars(optimizer, 2);
    EXPECT_EQ(varies, name.starts_with("adam")) << name;
  }
}

TEST(Adam, scalars_are_the_corrected_rate_and_what_corrects_the_root) {
  const auto first = Adam{}.scalars(1);
  EXPECT_DOUBLE_EQ(first[0], 1e-3 / 0.1);
  EXPECT_NEAR(first[1] * std::sqrt(0.001), 1, 1e-12);
  const auto second = Adam{}.scalars(2);
  EXPECT_DOUBLE_EQ(second[0], 1e-3 / 0.19);
  EXPECT_NEAR(second[1] * std::sqrt(0.001999), 1, 1e-12);
  const auto late = Adam{}.scalars(100000);
  EXPECT_DOUBLE_EQ(late[0], 1e-3);
  EXPECT_DOUBLE_EQ(late[1], 1);
}

TEST(AdamW, scalars_are_those_of_adam_and_the_decay) {
  for (const int64_t step : {1, 2, 10, 1000}) {
    const auto scalars = AdamW{}.scalars(step);
    const auto adam = Adam{}.scalars(step);
    EXPECT_EQ(scalars[0], adam[0]);
    EXPECT_EQ(scalars[1], adam[1]);
    EXPECT_DOUBLE_EQ(scalars[2], 1e-5);
  }
}

// One step from w = 1 along g = 2, worked out by hand.
struct Stepped {
  double weight;
  double state[2];
};

Stepped stepped(const Optimizer& optimizer, double state0, double state1 = 0) {
  Stepped result{1, {state0, state1}};
  const std::vector<double> scalars = step_scalars(optimizer, 1);
  std::visit([&](const auto& o) { o.step(result.weight, 2.0, result.state, scalars.data()); }, optimizer);
  return result;
}

TEST(Optimizers, sgd_steps_from_1_along_2_to_0_98) { EXPECT_DOUBLE_EQ(stepped(Sgd{}, 0).weight, 0.98); }

TEST(Optimizers, momentum_steps_by_what_it_has_gathered) {
  const Stepped result = stepped(Momentum{}, 0.5);
  EXPECT_DOUBLE_EQ(result.state[0], 2.45);
  EXPECT_DOUBLE_EQ(result.weight, 0.9755);
}

TEST(Optimizers, nesterov_looks_one_step_ahead) {
  const Stepped result = stepped(Nesterov{}, 0.5);
  EXPECT_DOUBLE_EQ(result.state[0], 2.45);
  EXPECT_DOUBLE_EQ(result.weight, 0.95795);  // 1 - 0.01 (2 + 0.9 x 2.45)
}

TEST(Optimizers, adagrad_divides_by_the_root_of_the_sum_of_squares) {
  const Stepped result = stepped(AdaGrad{}, 5);
  EXPECT_DOUBLE_EQ(result.state[0], 9);
  EXPECT_DOUBLE_EQ(result.weight, 1 - 0.02 / (3 + 1e-10));
}

TEST(Optimizers, rmsprop_divides_by_the_root_of_the_mean_square) {
  const Stepped result = stepped(RmsProp{}, 0);
  EXPECT_NEAR(result.state[0], 0.04, 1e-16);  // 1 - 0.99 is inexact
  EXPECT_NEAR(result.weight, 1 - 0.02 / (0.2 + 1e-8), 1e-15);
}

TEST(Optimizers, adam_first_steps_by_its_rate_whatever_the_gradient) {
  const Stepped result = stepped(Adam{}, 0, 0);
  EXPECT_DOUBLE_EQ(result.state[0], 0.2);
  EXPECT_DOUBLE_EQ(result.state[1], 0.004);
  EXPECT_DOUBLE_EQ(result.weight, 1 - 1e-3 * 2 / (2 + 1e-8));
  for (const double gradient : {1e-3, -5.0, 1e3}) {
    double weight = 0;
    double state[2] = {0, 0};
    Adam{}.step(weight, gradient, state, Adam{}.scalars(1).data());
    EXPECT_NEAR(weight, gradient > 0 ? -1e-3 : 1e-3, 2e-8) << gradient;
  }
}

TEST(Optimizers, adamw_decays_the_weight_before_it_steps) {
  const Stepped result = stepped(AdamW{}, 0, 0);
  EXPECT_DOUBLE_EQ(result.state[0], 0.2);
  EXPECT_DOUBLE_EQ(result.state[1], 0.004);
  EXPECT_DOUBLE_EQ(result.weight, 1 - 1e-5 - 1e-3 * 2 / (2 + 1e-8));
}

// The formulas as their papers (Adam: with the corrected moments) or PyTorch's documentation have them.
using Real = long double;
Real published_step(const std::string& name, Real w, Real g, Real* s, int t) {
  if (name == "sgd") return w - 0.01L * g;
  if (name == "momentum") return w - 0.01L * (s[0] = 0.9L * s[0] + g);
  if (name == "nesterov") {
    s[0] = 0.9L * s[0] + g;
    return w - 0.01L * (g + 0.9L * s[0]);
  }
  if (name == "adagrad") return s[0] += g * g, w - 0.01L * g / (std::sqrt(s[0]) + 1e-10L);
  if (name == "rmsprop") return s[0] = 0.99L * s[0] + 0.01L * g * g, w - 0.01L * g / (std::sqrt(s[0]) + 1e-8L);
  s[0] = 0.9L * s[0] + 0.1L * g;
  s[1] = 0.999L * s[1] + 0.001L * g * g;
  const Real mean = s[0] / (1 - std::pow(0.9L, static_cast<Real>(t)));
  const Real square = s[1] / (1 - std::pow(0.999L, static_cast<Real>(t)));
  if (name == "adamw") w -= 1e-3L * 0.01L * w;
  return w - 1e-3L * mean / (std::sqrt(square) + 1e-8L);
}

TEST(Optimizers, twenty_steps_are_those_of_the_published_formulas) {
  for (const auto& [name, unused] : kFlop) {
    const Optimizer optimizer = optimizer_named(name);
    double weight = 0.7;
    double state[2] = {0, 0};
    Real exact = 0.7L;
    Real exact_state[2] = {0, 0};
    for (int t = 1; t <= 20; ++t) {
      const double gradient = std::sin(3.7 * t) + 0.2 * weight;
      const std::vector<double> scalars = step_scalars(optimizer, t);
      std::visit([&](const auto& o) { o.step(weight, gradient, state, scalars.data()); }, optimizer);
      exact = published_step(name, exact, gradient, exact_state, t);
      EXPECT_NEAR(weight, static_cast<double>(exact), 1e-13) << name << ", step " << t;
      for (int i = 0; i < state_count(optimizer); ++i) {
        EXPECT_NEAR(state[i], static_cast<double>(exact_state[i]), 1e-13) << name << ", step " << t;
      }
    }
  }
}

}  // namespace
}  // namespace triphase
