// SPDX-License-Identifier: Apache-2.0
// A planted slowdown is real work, counted and never timed: the plan runs it after each group that is slowed, on every
// run, and after no other.
#include "backends/onednn/plant.h"

#include <gtest/gtest.h>

#include "backends/onednn/plan.h"
#include "measure/verify.h"
#include "networks.h"

namespace triphase {
namespace {

TEST(Plant, work_runs_every_round_in_every_thread) {
  EXPECT_EQ(planted_work(0, 1), 0);
  EXPECT_EQ(planted_work(12345, 1), 12345);
  EXPECT_EQ(planted_work(1000, 2), 2000);
}

TEST(Plant, more_time_is_more_rounds) { EXPECT_GT(planted_rounds(1, 1), planted_rounds(1e-6, 1)); }

struct Slowed {
  Plant plant;
  bool (*slows)(const Op&);
};

TEST(Plant, follows_each_group_of_its_kind_and_phase_and_no_other) {
  const Slowed cases[] = {
      {{"matmul", "backward_weights", 50},
       [](const Op& op) { return std::holds_alternative<MatMul>(op.kind) && op.phase == Phase::kBackwardWeights; }},
      {{"*", "update", 100}, [](const Op& op) { return op.phase == Phase::kUpdate; }},
      {{"relu", "forward", 10}, [](const Op& op) { return std::holds_alternative<Relu>(op.kind); }},
      {{"matmul", "update", 10}, [](const Op&) { return false; }},
  };
  const StepProgram program = lower(network_from(small_networks()[0].json), 4, Sgd{});
  for (const Slowed& slowed : cases) {
    OnednnPlan plan(program, {.threads = 2}, slowed.plant);
    plan.allocate(3);
    std::vector<double> stamps_s;
    plan.run_step(Marks::kNone, stamps_s);
    int groups_slowed = 0;
    for (int g = 0; g < static_cast<int>(plan.groups().size()); ++g) {
      bool expected = false;
      for (const int op : plan.groups()[static_cast<size_t>(g)].ops) {
        expected = expected || slowed.slows(program.ops[static_cast<size_t>(op)]);
      }
      const std::vector<int> group = {g};
      const int64_t before = plan.planted_rounds_run();
      plan.run_groups(group, 1);
      const int64_t once = plan.planted_rounds_run() - before;
      plan.run_groups(group, 1);
      EXPECT_EQ(once > 0, expected) << slowed.plant.op << " " << slowed.plant.phase << " group " << g;
      EXPECT_EQ(plan.planted_rounds_run() - before, 2 * once);
      groups_slowed += once > 0;
    }
    EXPECT_EQ(groups_slowed > 0, slowed.plant.op != "matmul" || slowed.plant.phase != "update");
  }
}

TEST(Plant, changes_no_value) {
  const StepProgram program = lower(network_from(small_networks()[0].json), 4, Sgd{});
  OnednnPlan plan(program, {.threads = 2}, Plant{"*", "forward", 30});
  plan.allocate(3);
  EXPECT_TRUE(verify(program, plan, VerifyMode::kFull, 3).ok());
}

TEST(Plant, is_in_no_build_that_was_not_asked_for_one) {
#ifndef TRIPHASE_PLANT
  EXPECT_FALSE(built_in_plant().has_value());
  const StepProgram program = lower(network_from(small_networks()[0].json), 4, Sgd{});
  OnednnPlan plan(program, {.threads = 2});
  plan.allocate(3);
  std::vector<double> stamps_s;
  plan.run_step(Marks::kNone, stamps_s);
  EXPECT_EQ(plan.planted_rounds_run(), 0);
#else
  const std::optional<Plant> plant = built_in_plant();
  ASSERT_TRUE(plant.has_value());
  EXPECT_GT(plant->percent, 0);
#endif
}

}  // namespace
}  // namespace triphase
