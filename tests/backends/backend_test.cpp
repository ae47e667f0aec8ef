// SPDX-License-Identifier: Apache-2.0
// Every backend on every small network: each op's output against float64, and the losses of ten steps against the
// reference's.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "backends/expectations.h"
#include "backends/reference/reference.h"
#ifdef TRIPHASE_ONEDNN
#include "backends/onednn/library_call.h"
#include "backends/onednn/onednn.h"
#endif

namespace triphase {
namespace {

#ifdef TRIPHASE_ONEDNN
// Why this machine's oneDNN cannot compute a small step in bf16; empty where it can.
std::string why_not_bf16(Backend& backend) {
  const StepProgram program =
      with_precision(lower(network_from(small_networks().front().json), 2, Sgd{}), Precision::kBF16);
  const auto result = backend.compile(program, {.threads = 2});
  const auto* why = std::get_if<Unsupported>(&result);
  return why ? why->reason : "";
}
#endif

class Backends : public testing::TestWithParam<NamedNetwork> {};

TEST_P(Backends, reference_agrees_with_the_element_evaluator) {
  const auto backend = make_reference_backend();
  for (const auto& [precision, name] : kPrecisions) expect_verified(*backend, GetParam(), precision);
}

#ifdef TRIPHASE_ONEDNN
TEST_P(Backends, onednn_agrees_with_float64) {
  const auto backend = make_onednn_backend();
  expect_verified(*backend, GetParam());
}

TEST_P(Backends, onednn_in_bf16_agrees_with_float64) {
  const auto backend = make_onednn_backend();
  if (const std::string why = why_not_bf16(*backend); !why.empty()) GTEST_SKIP() << why;
  expect_verified(*backend, GetParam(), Precision::kBF16);
  expect_losses_of_the_reference(*backend, GetParam(), Precision::kBF16);
  expect_copies_follow(*backend, GetParam(), Precision::kBF16);
}

// Whichever is the fastest on this machine at this moment.
TEST_P(Backends, every_formulation_of_onednn_agrees_with_float64) {
  const auto backend = make_onednn_backend();
  std::set<std::string> names;
  const StepProgram program = lower(network_from(GetParam().json), 5, Sgd{});
  for (size_t formulation = 0, known = 0; formulation == 0 || names.size() > known; ++formulation) {
    known = names.size();
    const auto plan = compiled(*backend, program, formulation);
    plan->allocate(3);
    EXPECT_EQ(verify(program, *plan, VerifyMode::kFull, 3).failure, "") << formulation;
    for (const Group& group : plan->groups()) names.insert(group.implementation.name);
  }
  const auto have = [&](const std::string& prefix) {
    return std::ranges::any_of(names, [&](const std::string& name) { return name.starts_with(prefix); });
  };
  if (GetParam().name != "residual" && GetParam().name != "mlp") return;
  EXPECT_TRUE(have("inner_product:") && have("matmul:"));
  EXPECT_EQ(have("convolution:"), GetParam().name == "residual");
  EXPECT_EQ(have("convolution_turned:"), GetParam().name == "residual");
}

TEST_P(Backends, onednn_calls_alone_are_there_for_every_product_and_convolution) {
  const StepProgram program = lower(network_from(GetParam().json), 5, Sgd{});
  for (const Op& op : program.ops) {
    const auto call = library_call(program, op);
    EXPECT_EQ(call.has_value(), cost(program, op).flop > 0 && op.phase != Phase::kUpdate) << op.layer;
    if (!call) continue;
    EXPECT_GT(call->memory_bytes, 0);
    EXPECT_FALSE(call->implementation.empty());
    call->make()();
  }
}

TEST_P(Backends, onednn_plans_keep_what_is_still_to_be_read) {
  const auto backend = make_onednn_backend();
  const StepProgram program = lower(network_from(GetParam().json), 4, Adam{});
  const auto plan = compiled(*backend, program);
  const std::vector<Extent> planned = extents(program, *plan);
  expect_operands_are_kept(program, *plan);
  plan->allocate(3);
  EXPECT_EQ(extents(program, *plan), planned);
}

TEST_P(Backends, onednn_losses_of_ten_steps_are_the_references) {
  const auto backend = make_onednn_backend();
  expect_losses_of_the_reference(*backend, GetParam());
}
#endif

#ifdef TRIPHASE_ONEDNN
// Behind an average pooling gradients are alike all over an image, and their sums are rounded alike: never 8 sqrt(n),
// often hundreds of roundings off.
TEST(SumsOfEqualTerms, of_onednn_agree_with_float64) {
  const char* kBehind = R"({"name": "averaged", "input": {"shape": [3, 64, 64]},
    "loss": {"kind": "softmax_cross_entropy"}, "layers": [
    {"name": "conv1", "kind": "conv2d", "out_channels": 32, "kernel": 3, "padding": 1},
    {"name": "norm1", "kind": "batch_norm2d"},
    {"name": "relu1", "kind": "relu"},
    {"name": "conv2", "kind": "conv2d", "out_channels": 64, "kernel": 3, "padding": 1},
    {"name": "relu2", "kind": "relu"},
    {"name": "average", "kind": "global_avg_pool2d"},
    {"name": "flatten", "kind": "flatten"},
    {"name": "fc1", "kind": "linear", "out_features": 10}]})";
  const char* kBehindNorm = R"({"name": "averaged_norm", "input": {"shape": [3, 64, 64]},
    "loss": {"kind": "softmax_cross_entropy"}, "layers": [
    {"name": "conv1", "kind": "conv2d", "out_channels": 32, "kernel": 3, "padding": 1},
    {"name": "norm1", "kind": "batch_norm2d"},
    {"name": "average", "kind": "global_avg_pool2d"},
    {"name": "flatten", "kind": "flatten"},
    {"name": "fc1", "kind": "linear", "out_features": 10}]})";
  const auto backend = make_onednn_backend();
  for (const char* json : {kBehind, kBehindNorm}) {
    for (const int64_t batch : {1, 2, 4}) {
      const StepProgram program = lower(network_from(json), batch, Sgd{});
      for (uint64_t seed = 1; seed <= 4; ++seed) {
        const auto plan = compiled(*backend, program);
        plan->allocate(seed);
        EXPECT_EQ(verify(program, *plan, VerifyMode::kSampled, seed).failure, "") << batch << " " << seed;
      }
    }
  }
}
#endif

INSTANTIATE_TEST_SUITE_P(Small, Backends, testing::ValuesIn(small_networks()),
                         [](const auto& test) { return test.param.name; });

// A plan that is wrong in one element of one op.
class FaultyPlan : public Plan {
 public:
  FaultyPlan(std::unique_ptr<Plan> plan, TensorId tensor, double factor)
      : plan_(std::move(plan)), tensor_(tensor), factor_(factor) {}
  std::span<const Segment> segments(Marks marks) const override { return plan_->segments(marks); }
  void run_step(Marks marks, std::vector<double>& stamps) override { plan_->run_step(marks, stamps); }
  const std::vector<Group>& groups() const override { return plan_->groups(); }
  MemoryPlan memory_plan() const override { return plan_->memory_plan(); }
  void allocate(uint64_t seed) override { plan_->allocate(seed); }
  void restore() override { plan_->restore(); }
  void set_learning_rate(double rate) override { plan_->set_learning_rate(rate); }
  Extent extent(TensorId id) const override { return plan_->extent(id); }
  double read(TensorId id, int64_t index) const override {
    return plan_->read(id, index) * (id == tensor_ && index == 1 ? factor_ : 1);
  }
  void run_observed(const std::function<void(int)>& before, const std::function<void(int)>& after) override {
    plan_->run_observed(before, after);
  }
  double run_groups(std::span<const int> groups, int64_t runs) override { return plan_->run_groups(groups, runs); }
  double tick_s() const override { return plan_->tick_s(); }
  bool evict() override { return plan_->evict(); }

 private:
  std::unique_ptr<Plan> plan_;
  TensorId tensor_;
  double factor_;
};

// Wrong by three roundings of the type that it is kept in; by 0.1 % in f32.
class Faults : public testing::TestWithParam<std::pair<Precision, std::string_view>> {};

TEST_P(Faults, one_wrong_element_of_any_op_fails) {
  const auto backend = make_reference_backend();
  const Precision precision = GetParam().first;
  const StepProgram program = with_precision(lower(network_from(small_networks()[2].json), 2, Sgd{}), precision);
  int tried = 0;
  for (const Op& op : program.ops) {
    const TensorId output = op.outputs[0];
    if (element_count(program.tensor(output).type.shape) < 2) continue;
    const DType dtype = program.tensor(output).type.dtype;
    FaultyPlan plan(compiled(*backend, program), output, 1 + (is_narrow(dtype) ? 3 * unit_roundoff(dtype) : 1e-3));
    plan.allocate(3);
    if (plan.materialised(output)) {
      std::vector<double> stamps;
      plan.run_step(Marks::kNone, stamps);
      if (plan.read(output, 1) == 0) continue;  // a zero stays one
      plan.restore();
    }
    EXPECT_FALSE(verify(program, plan, VerifyMode::kFull, 3).ok()) << program.tensor(output).name;
    ++tried;
  }
  EXPECT_GT(tried, 10);
}

INSTANTIATE_TEST_SUITE_P(, Faults,
                         testing::Values(kPrecisions[0], kPrecisions[2], kPrecisions[3]),  // TF32 may be 0.1 % wrong
                         [](const auto& test) { return std::string(test.param.second); });

}  // namespace
}  // namespace triphase
