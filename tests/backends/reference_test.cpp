// SPDX-License-Identifier: Apache-2.0
// The reference against finite differences and against gradients worked out by hand.
#include <gtest/gtest.h>

#include <cmath>

#include "backends/reference/interpreter.h"
#include "networks.h"
#include "program/initial.h"
#include "program/precision.h"

namespace triphase {
namespace {

Interpreter<double> initialised(const StepProgram& program, uint64_t seed) {
  Interpreter<double> interpreter(program);
  for (TensorId id = 0; id < static_cast<TensorId>(program.tensors.size()); ++id) {
    if (program.tensor(id).producer >= 0) continue;
    const InitialValues initial(program, id, seed);
    for (int64_t i = 0; i < element_count(program.tensor(id).type.shape); ++i) interpreter[id].push_back(initial(i));
  }
  interpreter[program.scalars] = step_scalars(program.optimizer, 1);
  return interpreter;
}

double loss_at(const StepProgram& program, Interpreter<double>& interpreter) {
  for (const Op& op : program.ops) {
    if (op.phase == Phase::kForward) interpreter.run(op);
  }
  return interpreter[program.loss][0];
}

const Op* update_of(const StepProgram& program, TensorId parameter) {
  for (const Op& op : program.ops) {
    if (std::holds_alternative<Update>(op.kind) && op.inputs[0] == parameter) return &op;
  }
  return nullptr;
}

class SmallNetworks : public testing::TestWithParam<NamedNetwork> {};

// A step in f16, with all tensors wide again, so that nothing but the loss's scale is left of it.
StepProgram scaled_program(const Network& network, const Optimizer& optimizer, double loss_scale) {
  StepProgram program = with_precision(lower(network, 3, optimizer), Precision::kF16, loss_scale);
  for (Tensor& tensor : program.tensors) {
    if (is_narrow(tensor.type.dtype)) tensor.type.dtype = DType::kF32;
  }
  return program;
}

// A power of two rounds nothing: gradients are exactly so much larger, and parameters learn exactly the same.
TEST_P(SmallNetworks, a_scaled_loss_scales_gradients_and_no_update) {
  for (const std::string& optimizer : optimizer_names()) {
    const Network network = network_from(GetParam().json);
    const StepProgram plain = scaled_program(network, optimizer_named(optimizer), 1);
    const StepProgram scaled = scaled_program(network, optimizer_named(optimizer), 4096);
    Interpreter<double> expected = initialised(plain, 5);
    Interpreter<double> found = initialised(scaled, 5);
    expected.run_all();
    found.run_all();
    ASSERT_EQ(plain.tensors.size(), scaled.tensors.size());
    for (TensorId id = 0; id < static_cast<TensorId>(plain.tensors.size()); ++id) {
      const double factor = plain.tensor(id).role == Role::kGradient ? 4096 : 1;
      for (size_t i = 0; i < expected[id].size(); ++i) {
        EXPECT_EQ(found[id][i], factor * expected[id][i]) << plain.tensor(id).name << " " << optimizer;
      }
    }
  }
}

TEST_P(SmallNetworks, gradients_are_the_finite_differences_of_the_loss) {
  const StepProgram program = lower(network_from(GetParam().json), 3, Sgd{});
  Interpreter<double> interpreter = initialised(program, 5);
  interpreter.run_all();
  int checked = 0;
  for (TensorId id = 0; id < static_cast<TensorId>(program.tensors.size()); ++id) {
    const Tensor& tensor = program.tensor(id);
    if (tensor.role != Role::kParameter || tensor.producer >= 0) continue;
    const Op* update = update_of(program, id);
    ASSERT_NE(update, nullptr) << tensor.name;
    const std::vector<double> gradient = interpreter[update->inputs[1]];
    const size_t stride = gradient.size() / 25 + 1;
    for (size_t i = 0; i < gradient.size(); i += stride) {
      constexpr double kStep = 1e-6;
      const double value = interpreter[id][i];
      interpreter[id][i] = value + kStep;
      const double above = loss_at(program, interpreter);
      interpreter[id][i] = value - kStep;
      const double below = loss_at(program, interpreter);
      interpreter[id][i] = value;
      EXPECT_NEAR(gradient[i], (above - below) / (2 * kStep), 1e-7 + 1e-5 * std::abs(gradient[i]))
          << tensor.name << "[" << i << "]";
      ++checked;
    }
  }
  EXPECT_GT(checked, 10);
}

INSTANTIATE_TEST_SUITE_P(Reference, SmallNetworks, testing::ValuesIn(small_networks()),
                         [](const auto& test) { return test.param.name; });

// L = (ab + c)² with a = 2, b = -3, c = 10: here b is the weight of a layer whose input is 1.
TEST(Reference, gradients_of_the_square_of_a_product_plus_a_constant) {
  const StepProgram program = lower(network_from(R"({"name": "graph", "input": {"shape": [1]},
    "loss": {"kind": "mean_square"}, "layers": [
    {"name": "b", "kind": "linear", "out_features": 1, "bias": false},
    {"name": "ac", "kind": "linear", "out_features": 1}]})"),
                                    1, Sgd{});
  Interpreter<double> interpreter = initialised(program, 1);
  const auto find = [&](const std::string& name) {
    for (TensorId id = 0; id < static_cast<TensorId>(program.tensors.size()); ++id) {
      if (program.tensor(id).name == name) return id;
    }
    return kNoTensor;
  };
  interpreter[program.input] = {1};
  interpreter[find("b.weight")] = {-3};
  interpreter[find("ac.weight")] = {2};
  interpreter[find("ac.bias")] = {10};
  interpreter.run_all();
  EXPECT_EQ(interpreter[program.loss][0], 16);
  EXPECT_EQ(interpreter[find("ac.weight.gradient")][0], -24);
  EXPECT_EQ(interpreter[find("b.weight.gradient")][0], 16);
  EXPECT_EQ(interpreter[find("ac.bias.gradient")][0], 8);
}

TEST(Reference, running_statistics_follow_the_batch) {
  const StepProgram program = lower(network_from(small_networks()[5].json), 4, Sgd{});
  Interpreter<double> interpreter = initialised(program, 9);
  interpreter.run_all();
  for (const Op& op : program.ops) {
    if (!std::holds_alternative<RunningStatistics>(op.kind)) continue;
    const double count = static_cast<double>(std::get<RunningStatistics>(op.kind).count);
    EXPECT_EQ(count, 4 * 5 * 6);
    EXPECT_DOUBLE_EQ(interpreter[op.outputs[0]][1], 0.9 * 0 + 0.1 * interpreter[op.inputs[2]][1]);
    EXPECT_DOUBLE_EQ(interpreter[op.outputs[1]][1], 0.9 * 1 + 0.1 * count / (count - 1) * interpreter[op.inputs[3]][1]);
  }
}

}  // namespace
}  // namespace triphase
