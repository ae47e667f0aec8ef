// SPDX-License-Identifier: Apache-2.0
// Runs of a kernel on a simulated clock: what is run, what is timed, and what is evicted before.
#include "measure/kernel_source.h"

#include <gmock/gmock.h>

#include "measure/sampler.h"
#include "networks.h"

namespace triphase {
namespace {

constexpr double kTickS = 1e-6;
constexpr double kEvictS = 3e-3;

// A plan of one group an op, whose runs and evictions take simulated time and are written down.
class FakePlan : public Plan {
 public:
  FakePlan(const StepProgram& program, double run_s, bool evicts = true) : run_s_(run_s), evicts_(evicts) {
    for (int op = 0; op < static_cast<int>(program.ops.size()); ++op) groups_.push_back({{op}, "fake", 1});
  }

  std::vector<std::string> log;
  double now_s = 10;

  double read_clock() { return now_s += kTickS; }

  std::span<const Segment> segments(Marks) const override { return segments_; }
  void run_step(Marks, std::vector<double>& stamps_s) override {
    log.push_back("step");
    stamps_s = {now_s, now_s};
  }
  const std::vector<Group>& groups() const override { return groups_; }
  MemoryPlan memory_plan() const override { return {}; }
  void allocate(uint64_t) override {}
  void restore() override {}
  void set_learning_rate(double) override {}
  Extent extent(TensorId) const override { return {0, 4}; }
  double read(TensorId, int64_t) const override { return 0; }
  void run_observed(const std::function<void(int)>&, const std::function<void(int)>&) override {}
  double run_groups(std::span<const int> groups, int64_t runs) override {
    const double begin_s = read_clock();
    for (int64_t i = 0; i < runs; ++i) {
      for (const int group : groups) {
        log.push_back("group " + std::to_string(group));
        now_s += run_s_;
      }
    }
    return read_clock() - begin_s;
  }
  double tick_s() const override { return kTickS; }
  bool evict() override {
    log.push_back("evict");
    now_s += kEvictS;
    return evicts_;
  }

 private:
  double run_s_;
  bool evicts_;
  std::vector<Group> groups_;
  std::vector<Segment> segments_ = {{}};
};

// A max-pool's backward, which comes with the pool.
Kernel pool_backward() {
  const StepProgram program = lower(network_from(small_networks()[3].json), 2, Sgd{});
  for (int op = 0; op < static_cast<int>(program.ops.size()); ++op) {
    if (std::holds_alternative<MaxPool2dBackward>(program.ops[static_cast<size_t>(op)].kind)) {
      return extract(program, std::vector{op});
    }
  }
  throw std::logic_error("no pool");
}

KernelSource source_of(const Kernel& kernel, FakePlan& plan, Cache cache) {
  return {kernel, plan, cache, [&plan] { return plan.read_clock(); }};
}

TEST(KernelSource, hot_samples_hold_a_thousand_ticks_of_the_clock) {
  const Kernel kernel = pool_backward();
  for (const auto& [run_s, runs] : {std::pair{100 * kTickS, 16}, {2000 * kTickS, 1}, {500 * kTickS, 2}}) {
    FakePlan plan(kernel.program, run_s);
    KernelSource source = source_of(kernel, plan, Cache::kHot);
    EXPECT_EQ(source.runs_per_sample(), runs);
    plan.log.clear();
    std::vector<double> stamps_s;
    source.run_step(Marks::kPhases, stamps_s);
    EXPECT_EQ(plan.log, std::vector<std::string>(static_cast<size_t>(runs), "group 1"));
    ASSERT_EQ(stamps_s.size(), 2);
    EXPECT_NEAR(stamps_s[1] - stamps_s[0], run_s + kTickS / runs, 1e-9);
  }
}

TEST(KernelSource, every_cold_run_comes_right_after_an_eviction_that_is_not_timed) {
  const Kernel kernel = pool_backward();
  FakePlan plan(kernel.program, 100 * kTickS);
  KernelSource source = source_of(kernel, plan, Cache::kCold);
  EXPECT_EQ(source.runs_per_sample(), 1);
  plan.log.clear();
  std::vector<double> stamps_s;
  for (int i = 0; i < 3; ++i) {
    source.run_step(Marks::kPhases, stamps_s);
    EXPECT_NEAR(stamps_s[1] - stamps_s[0], 101 * kTickS, 1e-9);
  }
  EXPECT_EQ(plan.log, (std::vector<std::string>{"evict", "group 1", "evict", "group 1", "evict", "group 1"}));
  EXPECT_NEAR(source.untimed_s(), 3 * (kEvictS + 3 * kTickS), 1e-9);
}

TEST(KernelSource, what_makes_the_operands_runs_once_before) {
  const Kernel kernel = pool_backward();
  FakePlan plan(kernel.program, 1);
  source_of(kernel, plan, Cache::kHot);
  EXPECT_EQ(plan.log.front(), "step");
  EXPECT_EQ(std::ranges::count(plan.log, "step"), 1);
  EXPECT_EQ(std::ranges::count(plan.log, "group 0"), 0);
}

TEST(KernelSource, without_a_way_to_evict_there_is_no_cold) {
  const Kernel kernel = pool_backward();
  FakePlan plan(kernel.program, 1, /*evicts=*/false);
  EXPECT_THROW(source_of(kernel, plan, Cache::kCold), std::logic_error);
}

TEST(KernelSource, evictions_count_against_the_budget) {
  const Kernel kernel = pool_backward();
  FakePlan plan(kernel.program, 1e-3);
  KernelSource source = source_of(kernel, plan, Cache::kCold);
  SampleOptions options;
  options.budget_s = 0.4;  // of 4 ms each with its eviction
  options.minimum_s = 1;   // so that nothing else ends it
  const Samples samples = sample(source, options, {});
  EXPECT_EQ(samples.stop_reason, "budget");
  EXPECT_NEAR(static_cast<double>(samples.step_s.size() + samples.warmup_steps), 100, 2);
  EXPECT_TRUE(samples.unmarked_step_s.empty());
  EXPECT_TRUE(samples.layers.empty());
}

}  // namespace
}  // namespace triphase
