// SPDX-License-Identifier: Apache-2.0
// A GPU's ceilings on a host that stands in for a GPU: what is probed, how much work each run does, and that memory is
// given back. No rate is checked.
#include "backends/cuda/probes.h"

#include <gmock/gmock.h>

#include <cmath>
#include <set>

#include "backends/cuda/host_device.h"
#include "backends/cuda/plan.h"
#include "backends/expectations.h"
#include "extents.h"
#include "measure/ceilings.h"
#include "measure/prediction.h"

namespace triphase {
namespace {

using cuda::HostDevice;
using testing::AnyOf;
using testing::Contains;
using testing::Each;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;

const cuda::ProbeSizes kSmall = {.products = {8, 16}, .images = {{2, 4, 6}}, .run_s = 1e-5, .launch_bytes = 1 << 16};
constexpr HostDevice::Abilities kSmallDevice = {.memory_bytes = 8 << 20};

class StandIn : public Backend {
 public:
  explicit StandIn(HostDevice::Abilities abilities = kSmallDevice) : device(std::make_shared<HostDevice>(abilities)) {}
  std::string name() const override { return "cuda"; }
  std::vector<std::pair<std::string, std::string>> versions() const override { return {}; }
  std::variant<std::unique_ptr<Plan>, Unsupported> compile(const StepProgram& program, const CompileOptions&) override {
    return std::make_unique<cuda::CudaPlan>(program, device);
  }
  std::vector<ProbeGroup> probes(int) override { return cuda::probes(device, kSmall); }

  std::shared_ptr<HostDevice> device;
};

std::string label(const std::string& kernel, const std::string& dtype, const std::string& level) {
  return kernel + "|" + dtype + "|" + level;
}

std::set<std::string> labels(StandIn& backend) {
  std::set<std::string> all;
  for (const ProbeGroup& group : backend.probes(1)) {
    for (const Probe& probe : group.make()) {
      probe.run();
      all.insert(label(probe.kernel, probe.dtype, probe.level));
    }
  }
  return all;
}

TEST(CudaProbes, are_of_arithmetic_in_every_precision_of_memory_at_both_levels_and_of_latencies) {
  StandIn backend;
  std::set<std::string> expected = {label("call", "", ""), label("fork_join", "", "")};
  for (const std::string& precision : precision_names()) {
    for (const char* kernel : {"gemm", "convolution"}) expected.insert(label(kernel, precision, ""));
  }
  for (const char* kernel : {"read", "write", "copy", "update", "load"}) {
    for (const char* level : {"L2", "memory"}) expected.insert(label(kernel, "", level));
  }
  EXPECT_EQ(labels(backend), expected);
  EXPECT_EQ(backend.device->allocated_bytes(), 0);
}

TEST(CudaProbes, leave_out_what_the_device_has_no_way_to_run) {
  StandIn backend({.convolutions = false, .memory_bytes = 8 << 20});
  const std::set<std::string> all = labels(backend);
  EXPECT_THAT(all, Contains(label("gemm", "bf16", "")));
  EXPECT_THAT(all, Not(Contains(label("convolution", "bf16", ""))));
}

TEST(CudaProbes, work_is_what_the_runs_calls_do) {
  StandIn backend;
  for (const ProbeGroup& group : backend.probes(1)) {
    for (const Probe& probe : group.make()) {
      const HostDevice::Counts before = backend.device->counts();
      probe.run();
      const auto calls = static_cast<double>(backend.device->counts().calls - before.calls);
      if (probe.kernel == "gemm") {
        const double side = probe.shape == "8x8x8" ? 8 : 16;
        EXPECT_EQ(probe.work, calls * 2 * side * side * side);
      } else if (probe.kernel == "convolution") {
        EXPECT_EQ(probe.work, calls * 2 * 2 * 4 * 4 * (3 * 6 - 2) * (3 * 6 - 2));
      } else if (probe.kernel == "call") {
        EXPECT_EQ(probe.work, calls);
      }
      EXPECT_EQ(probe.latency, probe.kernel == "call" || probe.kernel == "fork_join" || probe.kernel == "load");
    }
  }
}

TEST(CudaProbes, move_as_many_bytes_as_they_say_and_what_is_in_memory_once_a_launch) {
  constexpr double kQuadBytes = 16;
  StandIn backend;
  for (const ProbeGroup& group : backend.probes(1)) {
    for (const Probe& probe : group.make()) {
      if (probe.level.empty() || probe.kernel == "load") continue;
      const HostDevice::Counts before = backend.device->counts();
      probe.run();
      const HostDevice::Counts& after = backend.device->counts();
      const auto launches = static_cast<double>(after.launches - before.launches);
      const auto bytes = static_cast<double>(probe.working_set_bytes);
      if (probe.shape == "device copy") {
        EXPECT_EQ(probe.work, launches * bytes);
        continue;
      }
      const auto quads = static_cast<double>(after.elements - before.elements);
      const double of_each = probe.kernel == "copy" ? 2 : probe.kernel == "update" ? 3 : 1;
      EXPECT_EQ(probe.work, quads * kQuadBytes * of_each) << probe.kernel;
      // A launch's quads over those of the operands that it goes over in step.
      const double at_once = probe.kernel == "copy" || probe.kernel == "update" ? 2 : 1;
      const double launched = probe.kernel == "read" ? launches / 2 : launches;  // in parts, and then the parts
      const double rounds = quads * kQuadBytes * at_once / bytes / launched;
      EXPECT_EQ(rounds, probe.level == "memory" ? 1 : std::floor((1 << 16) / bytes)) << probe.kernel;
    }
  }
}

TEST(CudaProbes, are_of_memory_just_beyond_the_cache_and_far_from_it) {
  StandIn backend;
  std::set<int64_t> sets;
  for (const ProbeGroup& group : backend.probes(1)) {
    for (const Probe& probe : group.make()) {
      if (probe.kernel == "read" && probe.level == "memory") sets.insert(probe.working_set_bytes);
    }
  }
  EXPECT_THAT(sets, ElementsAre(2 * backend.device->last_cache_bytes(), kSmallDevice.memory_bytes / 4));
}

TEST(CudaProbes, give_ceilings_that_times_of_a_plan_are_set_against) {
  StandIn backend;
  const std::vector<Ceiling> ceilings = measure_ceilings(backend, 1, int64_t{1} << 40, {1, 0}, {});
  const Machine machine(ceilings, 1);
  for (const NamedNetwork& named : small_networks()) {
    for (const Precision precision : {Precision::kF32, Precision::kF16}) {
      const StepProgram program = with_precision(lower(network_from(named.json), 4, Adam{}), precision);
      const auto plan = compiled(backend, program);
      const auto needed = demands(program, plan->groups(), extents(program, *plan), machine);
      ASSERT_TRUE(needed) << named.name;
      for (const Demand& demand : *needed) {
        EXPECT_THAT(roofline({&demand}).bound, AnyOf("compute", "L2", "memory", "latency"));
      }
    }
  }
}

TEST(CudaProbes, without_convolutions_serve_networks_that_have_none) {
  StandIn backend({.convolutions = false, .memory_bytes = 8 << 20});
  const Machine machine(measure_ceilings(backend, 1, int64_t{1} << 40, {1, 0}, {}), 1);
  for (const NamedNetwork& named : small_networks()) {
    const StepProgram program = lower(network_from(named.json), 4, Sgd{});
    std::vector<Group> groups;
    bool convolves = false;
    for (int op = 0; op < static_cast<int>(program.ops.size()); ++op) {
      groups.push_back({{op}, "", 0});
      convolves |= std::holds_alternative<Conv2d>(program.ops[static_cast<size_t>(op)].kind);
    }
    EXPECT_EQ(demands(program, groups, apart(program), machine).has_value(), !convolves) << named.name;
  }
}

TEST(CudaProbes, memory_is_read_at_a_rate_and_given_back) {
  StandIn backend({.memory_bytes = 4 << 20});
  EXPECT_GT(cuda::memory_bytes_per_s(backend.device), 0);
  EXPECT_EQ(backend.device->allocated_bytes(), 0);
}

TEST(CudaProbes, kernels_of_memory_do_what_they_say) {
  using cuda::kernels::Quad;
  HostDevice device;
  std::vector<Quad> x(3, Quad{{1, 2, 3, 4}});
  std::vector<Quad> y(3);
  device.launch(cuda::kernels::Fill{y.data(), 10, 2}, 6);  // three times over
  EXPECT_EQ(y[1].values[3], 10);
  EXPECT_EQ(y[2].values[0], 0);
  device.launch(cuda::kernels::Subtract{x.data(), y.data(), 2, 3}, 3);
  EXPECT_EQ(y[0].values[3], 2);
  EXPECT_EQ(y[2].values[1], -4);
  device.launch(cuda::kernels::CopyQuads{x.data(), y.data(), 3}, 9);
  EXPECT_EQ(y[2].values[2], 3);
  float sum = 0;
  device.launch(cuda::kernels::SumOfQuads{y.data(), &sum, 3}, 1, 6);
  EXPECT_EQ(sum, 60);
  const std::vector<uint32_t> next = {2, 0, 1};
  uint32_t place = 0;
  device.launch(cuda::kernels::Chase{next.data(), &place, 4}, 1);
  EXPECT_EQ(place, 2);
}

}  // namespace
}  // namespace triphase
