// SPDX-License-Identifier: Apache-2.0
// The GPU backend while CUDA and its libraries fail, on a fake GPU: whichever call it is, what was begun is undone, and
// the error is told in one line.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backends/cuda/cuda.h"
#include "backends/cuda/device.h"
#include "backends/expectations.h"
#include "fake_gpu/runtime.h"

namespace triphase {
namespace {

using fake_gpu::Living;
using testing::AnyOf;
using testing::HasSubstr;
using testing::IsEmpty;

std::unique_ptr<Backend> backend() {
  auto made = make_cuda_backend();
  if (const auto* why = std::get_if<Unsupported>(&made)) throw std::runtime_error(why->reason);
  return std::move(std::get<std::unique_ptr<Backend>>(made));
}

// Has every kind of call: products and convolutions with and without epilogues, own kernels, reductions, copies.
StepProgram program() {
  return with_precision(lower(network_from(R"({"name": "all", "input": {"shape": [2, 4, 4]},
        "loss": {"kind": "softmax_cross_entropy"}, "layers": [
        {"name": "conv", "kind": "conv2d", "out_channels": 3, "kernel": 2}, {"name": "relu", "kind": "relu"},
        {"name": "norm", "kind": "batch_norm2d"}, {"name": "flatten", "kind": "flatten"},
        {"name": "fc", "kind": "linear", "out_features": 3}]})"),
                              3, Adam{}),
                        Precision::kBF16);
}

// Everything that is done with a plan.
void use(Backend& gpu, const StepProgram& program) {
  const auto plan = compiled(gpu, program);
  plan->allocate(3);
  std::vector<double> stamps_s;
  plan->run_step(Marks::kPhases, stamps_s);
  plan->run_step(Marks::kLayers, stamps_s);
  plan->run_launched_step();
  plan->state();
  plan->evict();
  plan->read(program.loss, 0);
}

TEST(FakeGpu, lets_nothing_pass_that_cuda_forbids_and_leaves_nothing) {
  const auto gpu = backend();
  use(*gpu, program());
  const Living before = fake_gpu::living();
  use(*gpu, program());
  EXPECT_EQ(fake_gpu::living(), before);
  EXPECT_THAT(fake_gpu::violations(), IsEmpty());
}

class Faults : public testing::TestWithParam<std::pair<int, const char*>> {};

TEST_P(Faults, of_any_call_are_told_in_one_line_and_undone) {
  const auto gpu = backend();
  const StepProgram network = program();
  use(*gpu, network);  // or the first time would keep what later ones find
  const Living before = fake_gpu::living();
  const int64_t start = fake_gpu::calls();
  use(*gpu, network);
  const int64_t calls = fake_gpu::calls() - start;
  ASSERT_GT(calls, 100);

  constexpr int64_t kStep = 23;  // not every call, as there are thousands, but calls of every kind
  const auto& [status, name] = GetParam();
  int told = 0;
  for (int64_t which = 1 + status % kStep; which <= calls; which += kStep) {
    fake_gpu::fail("*", which, status);
    try {
      use(*gpu, network);
    } catch (const std::exception& error) {
      ++told;
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    }
    fake_gpu::mend();
    ASSERT_EQ(fake_gpu::living(), before) << "after call " << which << " of " << calls;
    ASSERT_THAT(fake_gpu::violations(), IsEmpty()) << "after call " << which << " of " << calls;
  }
  EXPECT_GT(told, calls / kStep / 10);  // the others: another way was found, or nobody needed to know
  use(*gpu, network);
}

INSTANTIATE_TEST_SUITE_P(All, Faults,
                         testing::Values(std::pair(int{cudaErrorUnknown}, "unknown"),
                                         std::pair(int{cudaErrorMemoryAllocation}, "out_of_memory"),
                                         std::pair(int{cudaErrorLaunchFailure}, "lost_device")),
                         [](const auto& test) { return test.param.second; });

}  // namespace
}  // namespace triphase
