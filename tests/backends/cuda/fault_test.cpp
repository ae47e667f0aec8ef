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
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

std::unique_ptr<Backend> backend() {
  auto made = make_cuda_backend();
  if (const auto* why = std::get_if<Unsupported>(&made)) throw std::runtime_error(why->reason);
  return std::move(std::get<std::unique_ptr<Backend>>(made));
}

// Has every kind of call: products and convolutions with and without epilogues, own kernels, reductions, copies. What
// was tuned for one batch is not known for another.
StepProgram program_of(int64_t batch) {
  return with_precision(lower(network_from(R"({"name": "all", "input": {"shape": [2, 4, 4]},
        "loss": {"kind": "softmax_cross_entropy"}, "layers": [
        {"name": "conv", "kind": "conv2d", "out_channels": 3, "kernel": 2}, {"name": "relu", "kind": "relu"},
        {"name": "conv2", "kind": "conv2d", "out_channels": 2, "kernel": 1, "bias": false},
        {"name": "relu2", "kind": "relu"},
        {"name": "conv3", "kind": "conv2d", "out_channels": 3, "kernel": 1, "bias": false},
        {"name": "relu3", "kind": "relu"},
        {"name": "norm", "kind": "batch_norm2d"}, {"name": "flatten", "kind": "flatten"},
        {"name": "fc", "kind": "linear", "out_features": 3}]})"),
                              batch, Adam{}),
                        Precision::kBF16);
}

// Everything that is done with a plan. Returns the calls until the plan is destroyed.
int64_t use(Backend& gpu, int64_t batch) {
  const int64_t start = fake_gpu::calls();
  const StepProgram program = program_of(batch);
  const auto plan = compiled(gpu, program);
  plan->allocate(3);
  std::vector<double> stamps_s;
  plan->run_step(Marks::kPhases, stamps_s);
  plan->run_step(Marks::kLayers, stamps_s);
  EXPECT_EQ(stamps_s.size(), plan->segments(Marks::kLayers).size() + 1);
  plan->run_launched_step();
  plan->state();
  plan->evict();
  plan->restore();
  EXPECT_EQ(verify(program, *plan, VerifyMode::kFull, 3).failure, "") << "what did not fail went wrong";
  return fake_gpu::calls() - start;
}

TEST(FakeGpu, lets_nothing_pass_that_cuda_forbids_and_leaves_nothing) {
  const auto gpu = backend();
  use(*gpu, 3);
  const Living before = fake_gpu::living();
  use(*gpu, 4);
  EXPECT_EQ(fake_gpu::living(), before);
  EXPECT_THAT(fake_gpu::violations(), IsEmpty());
}

class Faults : public testing::TestWithParam<std::pair<int, const char*>> {};

TEST_P(Faults, of_any_call_are_told_in_one_line_and_undone) {
  constexpr int64_t kStep = 67;  // not every call, as there are thousands
  const int status = GetParam().first;
  const auto gpu = backend();
  int64_t batch = 3;
  use(*gpu, batch++);  // or the first time would keep what later ones find
  const Living before = fake_gpu::living();
  const int64_t calls = use(*gpu, batch++);
  ASSERT_GT(calls, 100);
  int told = 0;
  for (int64_t which = 1 + status % kStep; which <= calls; which += kStep) {
    SCOPED_TRACE("call " + std::to_string(which) + " of " + std::to_string(calls) + " fails");
    fake_gpu::fail("*", which, status);
    bool threw = false;
    try {
      use(*gpu, batch++);
    } catch (const std::exception& error) {
      threw = true;
      EXPECT_STRNE(error.what(), "");
      EXPECT_THAT(error.what(), Not(HasSubstr("\n")));
    }
    fake_gpu::mend();
    told += threw;
    EXPECT_TRUE(threw || status != cudaErrorLaunchFailure) << "a lost device was passed over";
    ASSERT_EQ(fake_gpu::living(), before);
    ASSERT_THAT(fake_gpu::violations(), IsEmpty());
  }
  EXPECT_GT(told, calls / kStep / 10);  // the others: another way was found, or nobody needed to know
  use(*gpu, batch);
}

INSTANTIATE_TEST_SUITE_P(All, Faults,
                         testing::Values(std::pair(int{cudaErrorUnknown}, "unknown"),
                                         std::pair(int{cudaErrorMemoryAllocation}, "out_of_memory"),
                                         std::pair(int{cudaErrorLaunchFailure}, "lost_device")),
                         [](const auto& test) { return test.param.second; });

}  // namespace
}  // namespace triphase
