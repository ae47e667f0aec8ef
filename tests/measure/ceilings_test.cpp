// SPDX-License-Identifier: Apache-2.0
// How ceilings come out of probes, and what the machine that they describe answers. Probes here do no work: nothing
// depends on how fast they run.
#include "measure/ceilings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <set>

namespace triphase {
namespace {

void wait_us(int us) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(us);
  while (std::chrono::steady_clock::now() < end) {
  }
}

Probe probe(std::string kernel, std::string dtype, std::string level, int64_t set, double work, bool latency = false,
            int us = 2) {
  return {std::move(kernel), std::move(dtype), std::move(level), "shape", set, work, latency, [us] { wait_us(us); }};
}

// Offers what a test gives it.
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
};

const ProbeOptions kQuick{7, 0.0};

TEST(Ceilings, hold_each_kernel_once_with_an_interval_and_the_shape_that_did_more) {
  FakeBackend backend;
  backend.groups = {{1, [] {
                       std::vector<Probe> all = {probe("gemm", "f32", "", 10, 1.0), probe("gemm", "f32", "", 20, 1e6),
                                                 probe("gemm", "bf16", "", 10, 5.0)};
                       all[1].shape = "large";
                       return all;
                     }}};
  const std::vector<Ceiling> found = measure_ceilings(backend, 3, 100, kQuick, {});
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].shape, "large");
  EXPECT_EQ(found[0].threads, 3);
  EXPECT_EQ(found[0].passes, 7u);
  ASSERT_TRUE(found[0].ci95);
  EXPECT_LE(found[0].ci95->low, found[0].value);
  EXPECT_GE(found[0].ci95->high, found[0].value);
  EXPECT_GE(found[0].best, found[0].ci95->high);
  EXPECT_EQ(found[1].dtype, "bf16");
}

TEST(Ceilings, of_latency_are_seconds_of_one_and_the_best_is_the_least) {
  FakeBackend backend;
  backend.groups = {{1, [] { return std::vector{probe("load", "", "L1", 64, 100, true, 50)}; }}};
  const std::vector<Ceiling> found = measure_ceilings(backend, 1, 100, kQuick, {});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_TRUE(found[0].latency);
  EXPECT_GE(found[0].best, 50e-6 / 100);  // a run waits that long
  EXPECT_LE(found[0].best, found[0].value);
}

TEST(Ceilings, leave_out_groups_beyond_the_memory_and_never_make_them) {
  FakeBackend backend;
  backend.groups = {{60, [] { return std::vector{probe("read", "", "L1", 10, 1)}; }},
                    {60, []() -> std::vector<Probe> { throw std::logic_error("made"); }},
                    {40, [] { return std::vector{probe("read", "", "memory", 1000, 1)}; }}};
  const std::vector<Ceiling> found = measure_ceilings(backend, 1, 100, kQuick, {});
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].level, "L1");
  EXPECT_EQ(found[1].level, "memory");
}

TEST(Ceilings, are_none_when_asked_to_stop) {
  FakeBackend backend;
  backend.groups = {{1, [] { return std::vector{probe("read", "", "L1", 10, 1)}; }}};
  int asked = 0;
  EXPECT_TRUE(measure_ceilings(backend, 1, 100, kQuick, [&] { return ++asked < 3; }).empty());
  EXPECT_EQ(asked, 3);
}

TEST(Ceilings, include_what_the_gauge_read_between_passes) {
  FakeBackend backend;
  backend.groups = {{1, [] { return std::vector{probe("read", "", "L1", 10, 1)}; }}};
  backend.gauges = {1, [] { return std::vector{probe("gauge_memory", "", "", 0, 8)}; }};
  const std::vector<Ceiling> found = measure_ceilings(backend, 1, 100, kQuick, {});
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[1].kernel, "gauge_memory");
  EXPECT_EQ(found[1].passes, 7u);
  EXPECT_FALSE(Gauge::make(backend, 1, 0));  // no memory for it
  EXPECT_THAT(Gauge::make(backend, 1, 1)->rates(), testing::SizeIs(1));
}

Ceiling rate(std::string kernel, std::string level, int64_t set, double value, bool latency = false) {
  Ceiling c;
  c.kernel = std::move(kernel);
  c.level = std::move(level);
  c.working_set_bytes = set;
  c.value = value;
  c.latency = latency;
  if (c.kernel == "gemm" || c.kernel == "convolution") c.dtype = "f32";
  return c;
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

TEST(Machine, is_complete_only_with_every_kind_of_ceiling) {
  std::vector<Ceiling> all = {rate("gemm", "", 0, 1),       rate("convolution", "", 0, 1),
                              rate("read", "L1", 1, 1),     rate("write", "L1", 1, 1),
                              rate("update", "L1", 1, 1),   rate("load", "L1", 1, 1, true),
                              rate("call", "", 1, 1, true), rate("fork_join", "", 1, 1, true)};
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
