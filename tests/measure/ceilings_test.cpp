// SPDX-License-Identifier: Apache-2.0
// How ceilings come out of probes, and what the machine that they describe answers. Probes here do no work and move a
// clock of their own: nothing depends on how fast they run.
#include "measure/ceilings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "rates.h"

namespace triphase {
namespace {

// Offers what a test gives it, and runs in its own time.
class FakeBackend : public Backend {
 public:
  std::vector<ProbeGroup> groups;
  ProbeGroup gauges;

  std::string name() const override { return "fake"; }
  std::vector<std::pair<std::string, std::string>> versions() const override { return {}; }
  std::variant<std::unique_ptr<Plan>, Unsupported> compile(const StepProgram&, const CompileOptions&) override {
    return Unsupported{"fake"};
  }
  std::vector<ProbeGroup> probes(int) override { return groups; }
  ProbeGroup gauge(int) override { return gauges; }

  // One whose runs take so many seconds each, in turn.
  Probe probe(std::string kernel, std::string level, double work, std::vector<double> run_s) {
    const bool latency = kernel == "load";
    return {std::move(kernel),
            "",
            std::move(level),
            "shape",
            64,
            work,
            latency,
            [this, run_s = std::move(run_s), next = size_t{0}]() mutable {
              time_s_ += run_s[next];
              next = (next + 1) % run_s.size();
            }};
  }

  // As few runs as there can be.
  ProbeOptions options() {
    return {7, 0.0, [this] { return time_s_; }};
  }

 private:
  double time_s_ = 0;
};

constexpr double kRunS = 0.5;  // longer than what is repeated to fill a sample

TEST(Ceilings, hold_each_kernel_once_with_the_shape_that_did_more) {
  FakeBackend backend;
  backend.groups = {{1, [&] {
                       std::vector<Probe> all = {backend.probe("gemm", "", 10, {kRunS}),
                                                 backend.probe("gemm", "", 40, {kRunS}),
                                                 backend.probe("gemm", "", 20, {kRunS})};
                       all[1].shape = "large";
                       all[2].dtype = "bf16";
                       return all;
                     }}};
  const std::vector<Ceiling> found = measure_ceilings(backend, 3, 100, backend.options(), {});
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].shape, "large");
  EXPECT_EQ(found[0].threads, 3);
  EXPECT_EQ(found[0].passes, 7u);
  EXPECT_DOUBLE_EQ(found[0].value, 80);
  EXPECT_EQ(found[1].dtype, "bf16");
  EXPECT_DOUBLE_EQ(found[1].value, 40);
}

// Three runs before the first pass, then two a pass: the passes' bests are 7/8, 6/8 ... 1/8 seconds, out of order.
TEST(Ceilings, are_the_median_of_the_passes_bests_between_the_ends_of_its_interval) {
  FakeBackend backend;
  const std::vector<double> best_s = {0.625, 0.25, 0.875, 0.125, 0.75, 0.375, 0.5};
  std::vector<double> run_s = {1, 1, 1};
  for (const double s : best_s) run_s.insert(run_s.end(), {s, 1});
  backend.groups = {{1, [&] { return std::vector{backend.probe("read", "L1", 8, run_s)}; }}};
  const std::vector<Ceiling> found = measure_ceilings(backend, 1, 100, backend.options(), {});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_DOUBLE_EQ(found[0].value, 8 / 0.5);
  ASSERT_TRUE(found[0].ci95);
  EXPECT_DOUBLE_EQ(found[0].ci95->low, 8 / 0.875);
  EXPECT_DOUBLE_EQ(found[0].ci95->high, 8 / 0.125);
  EXPECT_DOUBLE_EQ(found[0].best, 8 / 0.125);
}

TEST(Ceilings, of_latency_are_seconds_of_one_and_the_best_is_the_least) {
  FakeBackend backend;
  std::vector<double> run_s = {1, 1, 1, 0.25, 1};  // the first pass; one second each in the others
  run_s.resize(17, 1);
  backend.groups = {{1, [&] { return std::vector{backend.probe("load", "L1", 100, run_s)}; }}};
  const std::vector<Ceiling> found = measure_ceilings(backend, 1, 100, backend.options(), {});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_TRUE(found[0].latency);
  EXPECT_DOUBLE_EQ(found[0].value, 0.01);
  EXPECT_DOUBLE_EQ(found[0].best, 0.0025);
}

TEST(Ceilings, repeat_what_is_too_short_for_the_clock) {
  FakeBackend backend;
  int runs = 0;
  Probe probe = backend.probe("read", "L1", 1, {1e-6});
  probe.run = [&runs, run = probe.run] {
    ++runs;
    run();
  };
  backend.groups = {{1, [&] { return std::vector{probe}; }}};
  const std::vector<Ceiling> found = measure_ceilings(backend, 1, 100, backend.options(), {});
  EXPECT_NEAR(found.at(0).value, 1e6, 1);
  EXPECT_NEAR(runs, 3 + 7 * 2 * 200, 7 * 2);  // to fill 0.2 ms
}

TEST(Ceilings, leave_out_groups_beyond_the_memory_and_never_make_them) {
  FakeBackend backend;
  backend.groups = {{60, [&] { return std::vector{backend.probe("read", "L1", 1, {kRunS})}; }},
                    {60, []() -> std::vector<Probe> { throw std::logic_error("made"); }},
                    {40, [&] { return std::vector{backend.probe("read", "memory", 1, {kRunS})}; }}};
  const std::vector<Ceiling> found = measure_ceilings(backend, 1, 100, backend.options(), {});
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].level, "L1");
  EXPECT_EQ(found[1].level, "memory");
}

TEST(Ceilings, are_none_when_asked_to_stop) {
  FakeBackend backend;
  backend.groups = {{1, [&] { return std::vector{backend.probe("read", "L1", 1, {kRunS})}; }}};
  int asked = 0;
  EXPECT_TRUE(measure_ceilings(backend, 1, 100, backend.options(), [&] { return ++asked < 3; }).empty());
  EXPECT_EQ(asked, 3);
}

TEST(Ceilings, include_what_the_gauge_read_between_passes) {
  FakeBackend backend;
  backend.groups = {{1, [&] { return std::vector{backend.probe("read", "L1", 1, {kRunS})}; }}};
  backend.gauges = {1, [&] { return std::vector{backend.probe("gauge_memory", "", 8, {kRunS})}; }};
  const std::vector<Ceiling> found = measure_ceilings(backend, 1, 100, backend.options(), {});
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[1].kernel, "gauge_memory");
  EXPECT_EQ(found[1].passes, 7u);
  EXPECT_FALSE(Gauge::make(backend, 1, 0));  // no memory for it
  EXPECT_THAT(Gauge::make(backend, 1, 1)->rates(), testing::SizeIs(1));
}

TEST(Ceilings, measured_again_are_raised_only_where_they_are_better_at_the_same_speed) {
  std::vector<Ceiling> known = {rate("gauge_arithmetic", "", 0, 100), rate("gauge_memory", "", 0, 10),
                                rate("gemm", "", 0, 50), rate("read", "memory", 1000, 4),
                                rate("load", "L1", 64, 2e-9, true)};
  std::vector<Ceiling> again = known;
  again[0].value = 200;  // twice as fast at that moment
  again[2].value = 90;   // 45 at the speed of the known ones
  again[3].value = 5;    // memory as before
  again[4].value = 0.5e-9;
  again.push_back(rate("write", "memory", 1000, 9));  // not known before
  const auto raised = raise_ceilings(known, again);
  ASSERT_EQ(raised.size(), 2u);
  EXPECT_EQ(name_of(raised[0].first), "read memory");
  EXPECT_DOUBLE_EQ(raised[0].first.value, 4);
  EXPECT_DOUBLE_EQ(raised[0].second.value, 5);
  EXPECT_DOUBLE_EQ(raised[1].second.value, 1e-9);
  EXPECT_DOUBLE_EQ(known[0].value, 100);
  EXPECT_DOUBLE_EQ(known[2].value, 50);
  EXPECT_DOUBLE_EQ(known[3].value, 5);
  EXPECT_EQ(known.size(), 5u);
}

// A busy machine slows the gauge, and the best of other runs still shows what the machine can do.
TEST(Ceilings, measured_again_are_never_raised_beyond_what_was_reached) {
  const std::vector<Ceiling> before = {rate("gauge_arithmetic", "", 0, 100), rate("gauge_memory", "", 0, 10),
                                       rate("gemm", "", 0, 50), rate("read", "memory", 1000, 4)};
  std::vector<Ceiling> known = before;
  std::vector<Ceiling> again = before;
  again[0].value = 40;
  again[1].value = 2;
  again[2].value = 45;  // as fast as 112 at the speed of the known ones, says the gauge
  again[3].value = 5;
  const auto raised = raise_ceilings(known, again);
  ASSERT_EQ(raised.size(), 1u);
  EXPECT_DOUBLE_EQ(known[2].value, 50);
  EXPECT_DOUBLE_EQ(known[3].value, 5);
}

std::vector<Ceiling> levels() {
  return {rate("read", "L1", 1000, 800), rate("read", "L3", 100000, 8), rate("read", "memory", 1000000, 2),
          rate("load", "L1", 1000, 1e-9, true), rate("load", "memory", 1000000, 1e-7, true)};
}

TEST(Machine, interpolates_between_working_sets_in_the_logarithms_and_stays_beyond_them) {
  const Machine machine(levels(), 1);
  EXPECT_DOUBLE_EQ(*machine.bytes_per_s("read", 1), 800);
  EXPECT_DOUBLE_EQ(*machine.bytes_per_s("read", 1000), 800);
  EXPECT_NEAR(*machine.bytes_per_s("read", 10000), 80, 1e-9);  // half way in the logarithm
  EXPECT_NEAR(*machine.bytes_per_s("read", 100000), 8, 1e-9);
  EXPECT_DOUBLE_EQ(*machine.bytes_per_s("read", 1e12), 2);
  EXPECT_FALSE(machine.bytes_per_s("copy", 1));
  EXPECT_NEAR(*machine.latency_s("load", 1000 * std::sqrt(1000)), 1e-8, 1e-15);
}

TEST(Machine, finds_a_working_set_in_the_two_levels_around_it) {
  const Machine machine(levels(), 1);
  const auto text = [&](double set) {
    std::string result;
    for (const Machine::Share& part : machine.shares(set)) {
      result += part.level + " " + std::to_string(static_cast<int>(std::lround(100 * part.share))) + " ";
    }
    return result;
  };
  EXPECT_EQ(text(1), "L1 100 ");
  EXPECT_EQ(text(1000), "L1 100 ");
  EXPECT_EQ(text(10000), "L1 50 L3 50 ");
  EXPECT_EQ(text(100000), "L1 0 L3 100 ");
  EXPECT_EQ(text(1e9), "memory 100 ");
  EXPECT_TRUE(Machine().shares(1).empty());
}

TEST(Machine, knows_the_ceilings_of_its_threads_alone) {
  std::vector<Ceiling> all = {rate("gemm", "", 0, 5)};
  all[0].threads = 2;
  EXPECT_FALSE(Machine(all, 1).flop_per_s("gemm", "f32"));
  EXPECT_DOUBLE_EQ(*Machine(all, 2).flop_per_s("gemm", "f32"), 5);
  EXPECT_FALSE(Machine(all, 2).flop_per_s("gemm", "bf16"));
}

TEST(Machine, at_another_speed_scales_each_rate_by_its_own_part) {
  std::vector<Ceiling> all = levels();
  all.push_back(rate("gemm", "", 0, 10));
  const Machine machine(all, 1, {.arithmetic = 0.5, .cache = 2, .memory = 3});
  EXPECT_DOUBLE_EQ(*machine.flop_per_s("gemm", "f32"), 5);
  EXPECT_DOUBLE_EQ(*machine.bytes_per_s("read", 1000), 400);
  EXPECT_NEAR(*machine.bytes_per_s("read", 100000), 16, 1e-9);
  EXPECT_DOUBLE_EQ(*machine.bytes_per_s("read", 1000000), 6);
  EXPECT_DOUBLE_EQ(*machine.latency_s("load", 1000), 2e-9);  // a slower clock, a longer latency
}

TEST(Machine, is_complete_only_with_every_kind_of_ceiling_but_convolutions) {
  std::vector<Ceiling> all = {rate("gemm", "", 0, 1),           rate("read", "L1", 1, 1),
                              rate("write", "L1", 1, 1),        rate("update", "L1", 1, 1),
                              rate("load", "L1", 1, 1, true),   rate("call", "", 1, 1, true),
                              rate("fork_join", "", 1, 1, true)};
  EXPECT_TRUE(Machine(all, 1).complete());
  for (size_t i = 0; i < all.size(); ++i) {
    std::vector<Ceiling> fewer = all;
    fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
    EXPECT_FALSE(Machine(fewer, 1).complete()) << "without " << all[i].kernel;
  }
}

TEST(Speed, is_the_median_reading_beside_the_ceiling_of_the_same_threads) {
  std::vector<Ceiling> all = {rate("gauge_memory", "", 0, 10), rate("gauge_memory", "", 0, 40)};
  all[1].threads = 2;
  const Readings readings = {{{"gauge_memory", 10}}, {{"gauge_memory", 90}}, {{"gauge_memory", 20}}};
  EXPECT_DOUBLE_EQ(speed_of(readings, all, 1).memory, 2);
  EXPECT_DOUBLE_EQ(speed_of(readings, all, 2).memory, 0.5);
  EXPECT_DOUBLE_EQ(speed_of(readings, all, 1).arithmetic, 1);  // not read
  EXPECT_DOUBLE_EQ(speed_of({}, all, 1).memory, 1);
}

}  // namespace
}  // namespace triphase
