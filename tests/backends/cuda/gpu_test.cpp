// SPDX-License-Identifier: Apache-2.0
// The GPU backend on a GPU: skipped where there is none, with the backend's own reason.
#include "backends/cuda/gpu.h"

#include <gtest/gtest.h>

#include <cmath>
#include <ostream>
#include <string>
#include <tuple>
#include <vector>

#include "backends/cuda/cuda.h"
#include "backends/expectations.h"
#include "measure/ceilings.h"
#include "measure/kernel_source.h"
#include "program/kernel.h"

namespace triphase {
namespace {

class OnGpu : public testing::Test {
 protected:
  void SetUp() override {
    auto made = make_cuda_backend();
    if (const auto* why = std::get_if<Unsupported>(&made)) GTEST_SKIP() << why->reason;
    backend = std::move(std::get<std::unique_ptr<Backend>>(made));
  }

  std::unique_ptr<Backend> backend;
};

class Gpu : public OnGpu, public testing::WithParamInterface<std::tuple<NamedNetwork, Precision>> {
 protected:
  const NamedNetwork& network() const { return std::get<0>(GetParam()); }
  Precision precision() const { return std::get<1>(GetParam()); }
  StepProgram program_with(const Optimizer& optimizer) const {
    return with_precision(lower(network_from(network().json), 4, optimizer), precision());
  }
};

TEST_P(Gpu, agrees_with_float64) { expect_verified(*backend, network(), precision()); }

TEST_P(Gpu, agrees_with_float64_without_epilogues) {
  const StepProgram program = program_with(Sgd{});
  const auto plan = compiled(*backend, program, 1);
  plan->allocate(3);
  EXPECT_EQ(verify(program, *plan, VerifyMode::kFull, 3).failure, "");
}

TEST_P(Gpu, losses_of_ten_steps_are_the_references) {
  expect_losses_of_the_reference(*backend, network(), precision(), /*repeats_exactly=*/false);
}

TEST_P(Gpu, copies_follow_their_parameters) {
  if (is_narrow(dtype_of(precision()))) expect_copies_follow(*backend, network(), precision());
}

TEST_P(Gpu, every_kernel_alone_agrees_with_float64_and_takes_time) {
  const StepProgram program = program_with(Adam{});
  const auto whole = compiled(*backend, program);
  for (const Group& group : whole->groups()) {
    if (group.implementation.name == "view") continue;
    const Kernel kernel = extract(program, group.ops);
    const auto plan = compiled(*backend, kernel.program);
    plan->allocate(3);
    EXPECT_EQ(verify(kernel.program, *plan, VerifyMode::kFull, 3).failure, "") << name_of(kernel);
    for (const Cache cache : {Cache::kHot, Cache::kCold}) {
      KernelSource source(kernel, *plan, cache);
      std::vector<double> stamps_s;
      source.run_step(Marks::kPhases, stamps_s);
      EXPECT_LT(stamps_s[0], stamps_s[1]) << name_of(kernel);
    }
  }
}

TEST_P(Gpu, a_launched_step_and_a_replayed_one_compute_the_same) {
  const StepProgram program = program_with(with_learning_rate(Sgd{}, 1e-3));
  const auto launched = compiled(*backend, program);
  const auto replayed = compiled(*backend, program);
  launched->allocate(3);
  replayed->allocate(3);
  std::vector<double> stamps_s;
  for (const Marks marks : {Marks::kNone, Marks::kPhases, Marks::kLayers}) {
    EXPECT_GT(launched->run_launched_step().value(), 0);
    replayed->run_step(marks, stamps_s);
    ASSERT_EQ(stamps_s.size(), replayed->segments(marks).size() + 1);
    EXPECT_TRUE(std::ranges::is_sorted(stamps_s));
    const double loss = launched->read(program.loss, 0);
    EXPECT_NEAR(replayed->read(program.loss, 0), loss, tolerance(program) * std::abs(loss));
  }
}

struct LargeNetwork {
  std::string name;
  int64_t batch;
  std::string json;
};

void PrintTo(const LargeNetwork& network, std::ostream* out) { *out << network.name; }

// Their reductions have few results of many terms each, which several blocks share.
const std::vector<LargeNetwork>& large_networks() {
  static const std::vector<LargeNetwork> networks = {
      {"few_channels", 33,
       R"({"name": "few_channels", "input": {"shape": [2, 20, 18]}, "loss": {"kind": "mean_square"}, "layers": [
        {"name": "conv", "kind": "conv2d", "out_channels": 3, "kernel": 3, "padding": 1},
        {"name": "norm", "kind": "batch_norm2d"}, {"name": "relu", "kind": "relu"}]})"},
      {"many_classes", 3,
       R"({"name": "many_classes", "input": {"shape": [5]}, "loss": {"kind": "softmax_cross_entropy"}, "layers": [
        {"name": "fc", "kind": "linear", "out_features": 5000}]})"},
      {"many_rows", 2000,
       R"({"name": "many_rows", "input": {"shape": [2]}, "loss": {"kind": "softmax_cross_entropy"}, "layers": [
        {"name": "fc", "kind": "linear", "out_features": 3}]})"}};
  return networks;
}

class GpuReductions : public OnGpu, public testing::WithParamInterface<std::tuple<LargeNetwork, Precision>> {};

TEST_P(GpuReductions, agree_with_float64_in_parts) {
  const auto& [large, precision] = GetParam();
  const StepProgram program = with_precision(lower(network_from(large.json), large.batch, Sgd{}), precision);
  for (const size_t formulation : {0, 1}) {
    const auto plan = compiled(*backend, program, formulation);
    plan->allocate(3);
    EXPECT_EQ(verify(program, *plan, VerifyMode::kFull, 3).failure, "") << formulation;
  }
}

// Losses of one block, whose threads share rows or have some each, and of more rows or classes than it takes.
TEST_F(OnGpu, agrees_with_float64_on_losses_of_any_shape) {
  const std::pair<int64_t, int64_t> shapes[] = {{1, 2},  {1, 1000}, {1, 4096}, {1, 4097}, {2, 37},   {3, 7},
                                                {9, 10}, {100, 40}, {129, 3},  {256, 16}, {256, 17}, {257, 3}};
  for (const auto& [rows, classes] : shapes) {
    const Network network = network_from(
        R"({"name": "loss", "input": {"shape": [2]}, "loss": {"kind": "softmax_cross_entropy"}, "layers": [
        {"name": "fc", "kind": "linear", "out_features": )" +
        std::to_string(classes) + "}]}");
    for (const Precision precision : {Precision::kF32, Precision::kBF16, Precision::kF16}) {
      const StepProgram program = with_precision(lower(network, rows, Sgd{}), precision);
      const auto plan = compiled(*backend, program);
      plan->allocate(3);
      EXPECT_EQ(verify(program, *plan, VerifyMode::kFull, 3).failure, "") << rows << " rows, " << classes << " classes";
    }
  }
}

// In packs of channels, with taps beyond what fits a byte.
TEST_F(OnGpu, agrees_with_float64_where_windows_are_large) {
  const StepProgram program = with_precision(lower(network_from(R"({"name": "tall", "input": {"shape": [4, 40, 3]},
        "loss": {"kind": "mean_square"}, "layers": [{"name": "conv", "kind": "conv2d", "out_channels": 4, "kernel": 1},
        {"name": "pool", "kind": "max_pool2d", "kernel": 33, "stride": 3, "padding": 16}]})"),
                                                   2, Sgd{}),
                                             Precision::kBF16);
  const auto plan = compiled(*backend, program);
  plan->allocate(3);
  EXPECT_EQ(verify(program, *plan, VerifyMode::kFull, 3).failure, "");
}

// The kernels that probes launch, each once over little.
TEST(GpuMemory, agrees_with_the_host) {
  using namespace cuda::kernels;
  const auto found = cuda::the_gpu();
  if (const auto* why = std::get_if<Unsupported>(&found)) GTEST_SKIP() << why->reason;
  cuda::Device& gpu = *std::get<std::shared_ptr<cuda::Device>>(found);
  constexpr int64_t kQuads = 5000;
  constexpr int64_t kBytes = kQuads * static_cast<int64_t>(sizeof(Quad));
  std::byte* x = gpu.allocate(kBytes);
  std::byte* y = gpu.allocate(kBytes);
  const auto quads = [](std::byte* data) { return reinterpret_cast<Quad*>(data); };
  std::vector<float> read(4 * kQuads);
  gpu.launch(Fill{quads(x), 3, kQuads}, kQuads);
  gpu.launch(CopyQuads{quads(x), quads(y), kQuads}, kQuads);
  gpu.launch(Subtract{quads(x), quads(y), 2, kQuads}, kQuads);
  gpu.read(read.data(), y, kBytes);
  EXPECT_EQ(read, std::vector<float>(4 * kQuads, 3 - 2 * 3));
  gpu.launch(SumOfQuads{quads(y), reinterpret_cast<float*>(x), kQuads}, 1, kQuads);
  gpu.read(read.data(), x, sizeof(float));
  EXPECT_EQ(read[0], -3.0f * 4 * kQuads);
  const std::vector<uint32_t> next = {2, 0, 3, 1};
  gpu.write(x, next.data(), static_cast<int64_t>(next.size() * sizeof(uint32_t)));
  const uint32_t start = 0;
  gpu.write(y, &start, sizeof start);
  gpu.launch(Chase{reinterpret_cast<uint32_t*>(x), reinterpret_cast<uint32_t*>(y), 6}, 1);
  uint32_t place = 0;
  gpu.read(&place, y, sizeof place);
  EXPECT_EQ(place, 3u);  // 0 2 3 1 0 2 3
  gpu.release(x);
  gpu.release(y);
}

TEST(GpuProbes, run_at_rates_above_zero) {
  auto made = make_cuda_backend();
  if (const auto* why = std::get_if<Unsupported>(&made)) GTEST_SKIP() << why->reason;
  Backend& backend = *std::get<std::unique_ptr<Backend>>(made);
  const std::vector<Ceiling> ceilings =
      measure_ceilings(backend, 1, backend.free_bytes().value(), {.passes = 1, .seconds_per_group = 0}, {});
  EXPECT_TRUE(Machine(ceilings, 1).complete());
  for (const Ceiling& ceiling : ceilings) EXPECT_GT(ceiling.value, 0) << name_of(ceiling);
  EXPECT_GT(backend.memory_bytes_per_s(1).value(), 0);
}

constexpr Precision kAllPrecisions[] = {Precision::kF32, Precision::kTF32, Precision::kBF16, Precision::kF16};
constexpr auto kName = [](const auto& test) {
  return std::get<0>(test.param).name + "_" + std::string(to_string(std::get<1>(test.param)));
};
INSTANTIATE_TEST_SUITE_P(Small, Gpu,
                         testing::Combine(testing::ValuesIn(small_networks()), testing::ValuesIn(kAllPrecisions)),
                         kName);
INSTANTIATE_TEST_SUITE_P(Large, GpuReductions,
                         testing::Combine(testing::ValuesIn(large_networks()), testing::ValuesIn(kAllPrecisions)),
                         kName);

TEST(CudaBackend, without_a_gpu_the_backend_says_why) {
  const auto made = make_cuda_backend();
  if (const auto* why = std::get_if<Unsupported>(&made)) {
    EXPECT_GT(why->reason.size(), 10);
    EXPECT_EQ(why->reason.find('\n'), std::string::npos);
  } else {
    EXPECT_GT(std::get<std::unique_ptr<Backend>>(made)->free_bytes().value(), 0);
  }
}

}  // namespace
}  // namespace triphase
