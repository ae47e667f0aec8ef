// SPDX-License-Identifier: Apache-2.0
// Every backend on every small network: each op's output against float64, and the losses of ten steps against the
// reference's.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "backends/reference/reference.h"
#include "measure/verify.h"
#include "networks.h"
#ifdef TRIPHASE_ONEDNN
#include "backends/onednn/library_call.h"
#include "backends/onednn/onednn.h"
#endif

namespace triphase {
namespace {

std::unique_ptr<Plan> compiled(Backend& backend, const StepProgram& program, std::optional<size_t> formulation = {}) {
  auto result = backend.compile(program, {.threads = 2, .formulation = formulation});
  if (const auto* why = std::get_if<Unsupported>(&result)) throw std::runtime_error(why->reason);
  return std::move(std::get<std::unique_ptr<Plan>>(result));
}

std::vector<double> losses(Plan& plan, const StepProgram& program, int steps) {
  std::vector<double> values;
  std::vector<double> stamps;
  for (int i = 0; i < steps; ++i) {
    plan.run_step(Marks::kNone, stamps);
    values.push_back(plan.read(program.loss, 0));
  }
  return values;
}

class Backends : public testing::TestWithParam<NamedNetwork> {};

void expect_verified(Backend& backend, const NamedNetwork& named) {
  for (const int64_t batch : {2, 5, 16}) {
    for (const std::string& optimizer : optimizer_names()) {
      if (batch != 5 && optimizer != "sgd") continue;
      const StepProgram program = lower(network_from(named.json), batch, optimizer_named(optimizer));
      const auto plan = compiled(backend, program);
      plan->allocate(3);
      const Verification result = verify(program, *plan, VerifyMode::kFull, 3);
      EXPECT_EQ(result.failure, "") << named.name << " " << optimizer << " batch " << batch;
      EXPECT_LE(result.max_error_over_bound, 1);
      EXPECT_EQ(result.ops_unchecked, 0);
      EXPECT_EQ(result.ops_checked, static_cast<int>(program.ops.size()));
    }
  }
}

TEST_P(Backends, reference_agrees_with_the_element_evaluator) {
  const auto backend = make_reference_backend();
  expect_verified(*backend, GetParam());
}

#ifdef TRIPHASE_ONEDNN
TEST_P(Backends, onednn_agrees_with_float64) {
  const auto backend = make_onednn_backend();
  expect_verified(*backend, GetParam());
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
    for (const Group& group : plan->groups()) names.insert(group.implementation);
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

TEST_P(Backends, onednn_losses_of_ten_steps_are_the_references) {
  const auto onednn = make_onednn_backend();
  const auto reference = make_reference_backend();
  for (const std::string& optimizer : optimizer_names()) {
    const StepProgram program =
        lower(network_from(GetParam().json), 4, with_learning_rate(optimizer_named(optimizer), 1e-3));
    const auto fast = compiled(*onednn, program);
    const auto exact = compiled(*reference, program);
    fast->allocate(3);
    exact->allocate(3);
    const std::vector<double> found = losses(*fast, program, 10);
    const std::vector<double> expected = losses(*exact, program, 10);
    for (size_t i = 0; i < found.size(); ++i) {
      EXPECT_NEAR(found[i], expected[i], 2e-5 * std::abs(expected[i]))
          << GetParam().name << " " << optimizer << " " << i;
    }
    fast->restore();
    EXPECT_EQ(losses(*fast, program, 10), found) << "restore() begins anew";
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
  bool materialised(TensorId id) const override { return plan_->materialised(id); }
  double read(TensorId id, int64_t index) const override {
    return plan_->read(id, index) * (id == tensor_ && index == 1 ? factor_ : 1);
  }
  void run_observed(const std::function<void(int)>& before, const std::function<void(int)>& after) override {
    plan_->run_observed(before, after);
  }
  void run_group(int group) override { plan_->run_group(group); }
  bool evict() override { return plan_->evict(); }

 private:
  std::unique_ptr<Plan> plan_;
  TensorId tensor_;
  double factor_;
};

TEST(Verify, one_wrong_element_of_any_op_fails) {
  const auto backend = make_reference_backend();
  const StepProgram program = lower(network_from(small_networks()[2].json), 2, Sgd{});
  int tried = 0;
  for (const Op& op : program.ops) {
    const TensorId output = op.outputs[0];
    if (element_count(program.tensor(output).type.shape) < 2) continue;
    FaultyPlan plan(compiled(*backend, program), output, 1.001);
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

}  // namespace
}  // namespace triphase
