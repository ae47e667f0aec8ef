// SPDX-License-Identifier: Apache-2.0
// Rows of kernels: one a cache state, whatever happened, and what a cold row says of its coldness.
#include "report/kernel_rows.h"

#include <gtest/gtest.h>

#include "networks.h"

namespace triphase {
namespace {

const KernelId kId = {"matmul/in:4x7,33x7/out:4x33", "matmul", "forward", "f32", "onednn", 2};

Kernel matmul() { return extract(lower(network_from(small_networks()[0].json), 4, Sgd{}), std::vector{0}); }

KernelMeasurement measured(Cache cache, std::vector<double> samples_s) {
  KernelMeasurement result{cache, 8, {}};
  result.measured.status = Status::kOk;
  result.measured.groups = {{{0}, "own", 100}};
  result.measured.samples.step_s = std::move(samples_s);
  return result;
}

TEST(KernelRows, name_the_kernel_its_phase_and_the_state_of_the_cache) {
  const auto found = rows(kId, {}, matmul(), {"a", "b", "a"}, {measured(Cache::kHot, {3, 1, 2})}, {});
  ASSERT_EQ(found.size(), 1);
  const auto& row = found[0];
  EXPECT_EQ(row["name"], "matmul/in:4x7,33x7/out:4x33/dtype:f32/backend:onednn/forward/hot/real_time");
  EXPECT_EQ(row["op"], "matmul");
  EXPECT_EQ(row["cache"], "hot");
  EXPECT_EQ(row["multiplicity"], 3);
  EXPECT_EQ(row["used_by"], nlohmann::ordered_json({"a", "b"}));
  EXPECT_EQ(row["runs_per_sample"], 8);
  EXPECT_EQ(row["median_s"], 2.0);
  EXPECT_EQ(row["samples_s"], nlohmann::ordered_json({3.0, 1.0, 2.0}));
  EXPECT_EQ(row["flop"], 2 * 4 * 7 * 33);
  EXPECT_EQ(row["implementation"], "own");
  EXPECT_EQ(row["traffic_bytes_planned"], 100);
  EXPECT_FALSE(row.contains("proven_cold"));
}

TEST(KernelRows, are_proven_cold_up_to_the_memorys_bandwidth_and_its_noise) {
  const Kernel kernel = matmul();
  const auto bytes = static_cast<double>(operand_bytes(kernel));
  const auto proven = [&](Cache cache, double seconds, std::optional<double> memory_bytes_per_s) {
    return rows(kId, {}, kernel, {"a"}, {measured(cache, {seconds})}, memory_bytes_per_s)[0];
  };
  EXPECT_EQ(proven(Cache::kCold, 1, bytes)["proven_cold"], true);
  EXPECT_EQ(proven(Cache::kCold, 1 / 1.04, bytes)["proven_cold"], true);
  EXPECT_EQ(proven(Cache::kCold, 1 / 1.06, bytes)["proven_cold"], false);
  EXPECT_EQ(proven(Cache::kCold, 1, bytes)["memory_bytes_per_s"], bytes);
  EXPECT_FALSE(proven(Cache::kCold, 1, {}).contains("proven_cold"));
  EXPECT_FALSE(proven(Cache::kHot, 1e-9, bytes).contains("proven_cold"));
}

TEST(KernelRows, of_what_did_not_run_say_why_and_have_no_times) {
  const auto found =
      rows(kId, {}, matmul(), {"a"}, {{Cache::kHot, 1, skipped("no room")}, {Cache::kCold, 1, skipped("x")}}, 1.0);
  ASSERT_EQ(found.size(), 2);
  EXPECT_EQ(found[0]["status"], "skipped");
  EXPECT_EQ(found[0]["reason"], "no room");
  EXPECT_EQ(found[0]["error_occurred"], true);
  EXPECT_EQ(found[0]["real_time"], 0.0);
  EXPECT_FALSE(found[0].contains("median_s"));
  EXPECT_EQ(found[1]["cache"], "cold");
  EXPECT_FALSE(found[1].contains("proven_cold"));
}

}  // namespace
}  // namespace triphase
