// SPDX-License-Identifier: Apache-2.0
// The rules of a step program, on small networks that hold every layer kind and shape of graph: written once, gradients
// summed in the open, first layers without a data gradient, updates last; and that validate() sees what breaks them.
#include "program/program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <set>

#include "networks.h"
#include "program/initial.h"
#include "program/totals.h"

namespace triphase {
namespace {

const NamedNetwork& small(const std::string& name) {
  for (const NamedNetwork& network : small_networks()) {
    if (network.name == name) return network;
  }
  throw std::invalid_argument(name);
}

StepProgram program_of(const std::string& name, int64_t batch = 3, const Optimizer& optimizer = Sgd{}) {
  return lower(network_from(small(name).json), batch, optimizer);
}

TensorId find(const StepProgram& program, const std::string& name) {
  for (TensorId id = 0; id < static_cast<TensorId>(program.tensors.size()); ++id) {
    if (program.tensor(id).name == name) return id;
  }
  ADD_FAILURE() << "no tensor " << name;
  return kNoTensor;
}

const LayerInfo& layer(const StepProgram& program, const std::string& name) {
  for (const LayerInfo& info : program.layers) {
    if (info.name == name) return info;
  }
  throw std::invalid_argument(name);
}

template <class Kind>
int count(
    const StepProgram& program, const std::function<bool(const Op&)>& wanted = [](const Op&) { return true; }) {
  return static_cast<int>(std::ranges::count_if(
      program.ops, [&](const Op& op) { return std::holds_alternative<Kind>(op.kind) && wanted(op); }));
}

bool in_backward(const Op& op) { return is_backward(op.phase); }

class SmallPrograms : public testing::TestWithParam<NamedNetwork> {
 protected:
  std::vector<StepProgram> programs() const {
    std::vector<StepProgram> all;
    for (const std::string& optimizer : optimizer_names()) {
      all.push_back(lower(network_from(GetParam().json), 3, optimizer_named(optimizer)));
    }
    return all;
  }
};

TEST_P(SmallPrograms, tensors_are_written_once_before_they_are_read) {
  for (const StepProgram& program : programs()) {
    EXPECT_NO_THROW(validate(program));
    std::vector<int> writes(program.tensors.size());
    for (const Op& op : program.ops) {
      for (const TensorId id : op.inputs) {
        EXPECT_TRUE(program.tensor(id).producer < 0 || writes[static_cast<size_t>(id)] == 1) << program.tensor(id).name;
      }
      for (const TensorId id : op.outputs) EXPECT_EQ(++writes[static_cast<size_t>(id)], 1) << program.tensor(id).name;
    }
  }
}

TEST_P(SmallPrograms, readers_and_producers_are_those_of_the_ops) {
  const StepProgram program = programs()[0];
  std::vector<std::set<int>> readers(program.tensors.size());
  for (size_t i = 0; i < program.ops.size(); ++i) {
    for (const TensorId id : program.ops[i].inputs) readers[static_cast<size_t>(id)].insert(static_cast<int>(i));
    for (const TensorId id : program.ops[i].outputs) EXPECT_EQ(program.tensor(id).producer, static_cast<int>(i));
  }
  for (size_t id = 0; id < program.tensors.size(); ++id) {
    EXPECT_EQ(program.tensors[id].readers, std::vector<int>(readers[id].begin(), readers[id].end()));
  }
}

TEST_P(SmallPrograms, phases_come_in_order_forward_backward_update) {
  for (const StepProgram& program : programs()) {
    const auto rank = [](const Op& op) { return op.phase == Phase::kForward ? 0 : is_backward(op.phase) ? 1 : 2; };
    EXPECT_TRUE(std::ranges::is_sorted(program.ops, {}, rank));
  }
}

TEST_P(SmallPrograms, every_parameter_is_updated_once_after_its_last_reader) {
  for (const StepProgram& program : programs()) {
    int parameters = 0;
    for (const Tensor& tensor : program.tensors) {
      if (tensor.producer >= 0 || (tensor.role != Role::kParameter && tensor.role != Role::kState)) continue;
      parameters += tensor.role == Role::kParameter;
      ASSERT_NE(tensor.next, kNoTensor) << tensor.name;
      const Tensor& next = program.tensor(tensor.next);
      EXPECT_EQ(next.role, tensor.role);
      EXPECT_EQ(next.type, tensor.type);
      EXPECT_EQ(next.producer, tensor.readers.back()) << tensor.name << ": the update reads it last";
      EXPECT_EQ(program.ops[static_cast<size_t>(next.producer)].phase, Phase::kUpdate);
    }
    EXPECT_EQ(count<Update>(program), parameters);
  }
}

// Where several read a first layer's output, the sum of their gradients stands with it; nothing goes on to its input.
TEST_P(SmallPrograms, first_layers_have_no_backward_data_but_sums_over_their_readers) {
  const StepProgram program = programs()[0];
  int first = 0;
  for (size_t i = 0; i < program.layers.size(); ++i) {
    if (!program.layers[i].first) continue;
    ++first;
    for (const Op& op : program.ops) {
      if (op.layer != static_cast<int>(i) || op.phase != Phase::kBackwardData) continue;
      EXPECT_TRUE(std::holds_alternative<Add>(op.kind)) << name_of(op.kind) << " of " << program.layers[i].name;
    }
  }
  EXPECT_EQ(first, 1);
}

TEST_P(SmallPrograms, nothing_is_computed_that_no_one_reads_but_the_loss_and_what_lasts) {
  const StepProgram program = programs()[0];
  for (size_t i = 0; i < program.ops.size(); ++i) {
    const Op& op = program.ops[i];
    if (op.phase == Phase::kUpdate) continue;
    const bool useful = std::ranges::any_of(
        op.outputs, [&](TensorId id) { return id == program.loss || !program.tensor(id).readers.empty(); });
    EXPECT_TRUE(useful) << name_of(op.kind) << " of " << program.layers[static_cast<size_t>(op.layer)].name;
  }
}

TEST_P(SmallPrograms, totals_by_layer_add_up_to_those_by_phase_and_to_the_ops) {
  for (const StepProgram& program : programs()) {
    const Totals sums = totals(program);
    PhaseCosts by_layer;
    PhaseCosts by_op;
    for (const PhaseCosts& layer : sums.layers) {
      for (const auto& [phase, cost] : layer) by_layer[phase] += cost;
    }
    for (const Op& op : program.ops) by_op[op.phase] += cost(program, op);
    EXPECT_EQ(sums.phases, by_layer);
    EXPECT_EQ(sums.phases, by_op);
  }
}

INSTANTIATE_TEST_SUITE_P(Small, SmallPrograms, testing::ValuesIn(small_networks()),
                         [](const auto& test) { return test.param.name; });

TEST(Builder, a_chain_needs_no_sums_of_gradients) {
  for (const char* name : {"mlp", "one_input", "convnet", "conv_to_linear", "norm_first", "relu_first"}) {
    EXPECT_EQ(count<Add>(program_of(name)), 0) << name;
  }
}

// `a` is read by b, c and e: three gradients meet in two sums. What `d` and `e` pass on costs nothing.
TEST(Builder, fan_out_to_three_readers_takes_two_sums) {
  const StepProgram program = program_of("fan_out");
  EXPECT_EQ(count<Add>(program, in_backward), 2);
  EXPECT_EQ(count<Add>(program), 4) << "and the two layers themselves";
  for (const Op& op : program.ops) {
    if (!std::holds_alternative<Add>(op.kind) || !is_backward(op.phase)) continue;
    EXPECT_EQ(op.phase, Phase::kBackwardData);
    EXPECT_EQ(program.layers[static_cast<size_t>(op.layer)].name, "a") << "the sum belongs to whose output it is";
  }
}

// Three uses of one weight and one bias: two sums each; and the stem's output has two readers.
TEST(Builder, weights_shared_three_times_take_two_sums_each) {
  const StepProgram program = program_of("shared");
  const auto towards = [](Phase phase) { return [phase](const Op& op) { return op.phase == phase; }; };
  EXPECT_EQ(count<Add>(program, towards(Phase::kBackwardWeights)), 4);
  EXPECT_EQ(count<Add>(program, towards(Phase::kBackwardData)), 1);
  EXPECT_EQ(count<Update>(program), 6) << "stem, the shared layer and head, weight and bias";
  for (const Op& op : program.ops) {
    if (!std::holds_alternative<Add>(op.kind) || op.phase != Phase::kBackwardWeights) continue;
    EXPECT_EQ(program.layers[static_cast<size_t>(op.layer)].name, "fc.0") << "the owner of the weights";
  }
}

TEST(Builder, independent_weights_take_no_sums) {
  const StepProgram program = lower(network_from(small("shared").json, {{"share", false}}), 3, Sgd{});
  EXPECT_EQ(count<Add>(program, [](const Op& op) { return op.phase == Phase::kBackwardWeights; }), 0);
  EXPECT_EQ(count<Update>(program), 10);
}

TEST(Builder, a_residual_block_sums_the_gradients_of_both_branches_once) {
  EXPECT_EQ(count<Add>(program_of("residual"), in_backward), 1);
}

TEST(Builder, first_layers_are_those_with_parameters_whose_input_needs_no_gradient) {
  EXPECT_TRUE(layer(program_of("mlp"), "fc1").first);
  EXPECT_FALSE(layer(program_of("mlp"), "fc2").first);
  EXPECT_TRUE(layer(program_of("norm_first"), "norm").first);
  EXPECT_FALSE(layer(program_of("norm_first"), "fc").first);
  EXPECT_FALSE(layer(program_of("relu_first"), "relu").first) << "it has no parameters";
  EXPECT_TRUE(layer(program_of("relu_first"), "conv").first);
}

TEST(Builder, two_layers_on_the_input_are_both_first) {
  const StepProgram program = lower(network_from(R"({"name": "two", "input": {"shape": [4]},
    "loss": {"kind": "mean_square"}, "layers": [
    {"name": "a", "kind": "linear", "out_features": 3}, {"name": "b", "kind": "linear", "out_features": 3, "inputs": ["input"]},
    {"name": "sum", "kind": "add", "inputs": ["a", "b"]}]})"),
                                    2, Sgd{});
  EXPECT_TRUE(layer(program, "a").first);
  EXPECT_TRUE(layer(program, "b").first);
  EXPECT_EQ(count<Add>(program, in_backward), 0) << "each branch has the one gradient of the sum";
  EXPECT_EQ(first_layer_share(program, totals(program)), 1);
}

// dgamma and dbeta come out of one call with dx: that call is towards the data, unless there is no dx.
TEST(Builder, batch_norm_backward_is_towards_the_data_unless_the_norm_is_first) {
  for (const auto& [name, phase] :
       {std::pair{"residual", Phase::kBackwardData}, {"norm_first", Phase::kBackwardWeights}}) {
    const StepProgram program = program_of(name);
    EXPECT_GT(count<BatchNorm2dBackward>(program), 0);
    EXPECT_EQ(count<BatchNorm2dBackward>(program, [phase = phase](const Op& op) { return op.phase == phase; }),
              count<BatchNorm2dBackward>(program));
  }
}

TEST(Builder, running_statistics_are_replaced_in_the_update) {
  const StepProgram program = program_of("norm_first");
  const Tensor& mean = program.tensor(find(program, "norm.running_mean"));
  const Tensor& variance = program.tensor(find(program, "norm.running_var"));
  EXPECT_EQ(mean.init.value, 0);
  EXPECT_EQ(variance.init.value, 1);
  EXPECT_EQ(program.tensor(mean.next).name, "norm.running_mean.next");
  EXPECT_EQ(program.tensor(variance.next).role, Role::kStatistic);
  EXPECT_EQ(count<RunningStatistics>(program, [](const Op& op) { return op.phase == Phase::kUpdate; }), 1);
}

TEST(Builder, parameters_that_do_not_reach_the_loss_are_not_updated) {
  Builder builder(2, Sgd{});
  const TensorId x = builder.input({4});
  TensorId unread = kNoTensor;
  const auto linear = [](Builder& b, std::span<const TensorId> in) -> Lowered {
    const TensorId w = b.parameter("weight", {3, 4}, {});
    return {b.forward(MatMul{.transpose_b = true}, {in[0], w}), [&b, w, in0 = in[0]](TensorId dy) {
              b.gradient(Phase::kBackwardWeights, MatMul{.transpose_a = true}, {dy, in0}, {w});
            }};
  };
  const TensorId y = builder.layer("used", "linear", "used", linear, std::span(&x, 1));
  unread = builder.layer("unused", "linear", "unused", linear, std::span(&x, 1));
  const StepProgram program = builder.finish(
      "mean_square",
      [](Builder& b, std::span<const TensorId> in) -> Lowered {
        return {b.forward(MeanSquare{}, {in[0]}),
                [&b, in0 = in[0]](TensorId) { b.gradient(Phase::kBackwardData, MeanSquareBackward{}, {in0}, {in0}); }};
      },
      y);
  EXPECT_TRUE(program.tensor(unread).readers.empty());
  EXPECT_EQ(count<Update>(program), 1);
  EXPECT_EQ(program.tensor(find(program, "unused.weight")).next, kNoTensor);
}

TEST(Builder, shared_weights_of_two_shapes_are_refused) {
  Builder builder(2, Sgd{});
  const TensorId x = builder.input({4});
  const auto with_width = [](int64_t width) {
    return [width](Builder& b, std::span<const TensorId> in) -> Lowered {
      return {b.forward(MatMul{.transpose_b = true}, {in[0], b.parameter("weight", {width, 4}, {})}), nullptr};
    };
  };
  builder.layer("fc.0", "linear", "fc.0", with_width(3), std::span(&x, 1));
  try {
    builder.layer("fc.1", "linear", "fc.0", with_width(5), std::span(&x, 1));
    FAIL() << "accepted";
  } catch (const std::invalid_argument& error) {
    EXPECT_STREQ(error.what(), "expected shared weights of one shape, found [3, 4] and [5, 4]");
  }
}

struct Corruption {
  const char* message;
  std::function<void(StepProgram&)> corrupt;
};

TEST(Validate, sees_every_rule_that_is_broken) {
  const Corruption corruptions[] = {
      {"two tensors are named", [](StepProgram& p) { p.tensors[2].name = p.tensors[1].name; }},
      {"comes after an update", [](StepProgram& p) { std::swap(p.ops.front().phase, p.ops.back().phase); }},
      {"reads what is not written", [](StepProgram& p) { std::swap(p.ops[0], p.ops[4]); }},
      {"reads what is not written", [](StepProgram& p) { p.ops[0].inputs[0] = p.ops.back().outputs[0]; }},
      {"writes other types", [](StepProgram& p) { p.tensor(p.ops[0].outputs[0]).type.shape[0] += 1; }},
      {"writes other types", [](StepProgram& p) { p.tensor(p.ops[0].outputs[0]).type.dtype = DType::kU8; }},
      {"writes a tensor twice", [](StepProgram& p) { p.ops[2].outputs = p.ops[1].outputs; }},
      {"is not its outputs' producer", [](StepProgram& p) { p.tensor(p.ops[1].outputs[0]).producer = 0; }},
      {"others read", [](StepProgram& p) { p.tensor(p.ops[1].inputs[0]).readers.clear(); }},
      {"others read", [](StepProgram& p) { p.tensor(p.loss).readers = {0}; }},
  };
  for (const Corruption& corruption : corruptions) {
    StepProgram program = program_of("mlp");
    ASSERT_NO_THROW(validate(program));
    corruption.corrupt(program);
    try {
      validate(program);
      ADD_FAILURE() << "accepted what " << corruption.message;
    } catch (const std::logic_error& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr(corruption.message));
    }
  }
}

TEST(Storage, goes_through_every_reshape_to_what_was_computed_or_given) {
  const StepProgram program = program_of("convnet");
  EXPECT_EQ(storage_of(program, find(program, "flatten")), find(program, "average"));
  EXPECT_EQ(storage_of(program, find(program, "relu1")), find(program, "relu1"));
  EXPECT_EQ(storage_of(program, program.input), program.input);

  const StepProgram twice = lower(network_from(R"({"name": "twice", "input": {"shape": [2, 3, 4]},
    "loss": {"kind": "mean_square"}, "layers": [
    {"name": "one", "kind": "flatten"}, {"name": "two", "kind": "flatten"},
    {"name": "fc", "kind": "linear", "out_features": 2}]})"),
                                  5, Sgd{});
  EXPECT_EQ(storage_of(twice, find(twice, "two")), twice.input);
}

TEST(Memory, of_a_multilayer_perceptron_is_what_its_backward_reads) {
  const Memory memory = logical_memory(program_of("mlp", 3, Adam{}));
  const int64_t parameters = 7 * 33 + 33 + 33 * 16 + 16 * 5 + 5;
  EXPECT_EQ(memory.parameters, 4 * parameters);
  EXPECT_EQ(memory.gradients, 4 * parameters);
  EXPECT_EQ(memory.optimizer_state, 8 * parameters);
  EXPECT_EQ(memory.activations, 4 * 3 * (33 + 16 + 5)) << "both ReLU outputs and the probabilities";
  EXPECT_EQ(memory.input, 4 * 3 * (7 + 1)) << "data and targets";
  EXPECT_EQ(memory.statistics, 0);
  EXPECT_EQ(memory.total,
            memory.parameters + memory.gradients + memory.optimizer_state + memory.activations + memory.input);
}

// 17 x 5 x 5 after the first ReLU, 6 into the linear layer (kept once, under both of its shapes), 3 probabilities, and
// a byte for each of the 6 taps.
TEST(Memory, counts_what_flatten_shares_once_and_a_tap_as_a_byte) {
  EXPECT_EQ(logical_memory(program_of("conv_to_linear", 2)).activations, 2 * (4 * (17 * 25 + 6 + 3) + 6));
}

TEST(Memory, of_running_statistics_is_their_own) {
  const Memory memory = logical_memory(program_of("residual"));
  EXPECT_EQ(memory.statistics, 4 * 2 * 3 * 16);
}

TEST(Memory, activations_grow_in_proportion_to_the_batch_and_parameters_do_not) {
  for (const char* name : {"mlp", "one_input", "convnet", "conv_to_linear", "shared", "fan_out", "relu_first"}) {
    const Memory one = logical_memory(program_of(name, 1));
    const Memory eight = logical_memory(program_of(name, 8));
    EXPECT_EQ(eight.activations, 8 * one.activations) << name;
    EXPECT_EQ(eight.parameters, one.parameters) << name;
  }
}

TEST(Program, parameters_shared_count_once) {
  const int64_t stem_and_head = 6 * 8 + 8 + 8 * 4 + 4;
  EXPECT_EQ(parameter_count(program_of("shared")), stem_and_head + 8 * 8 + 8);
  const StepProgram apart = lower(network_from(small("shared").json, {{"share", false}}), 3, Sgd{});
  EXPECT_EQ(parameter_count(apart), stem_and_head + 3 * (8 * 8 + 8));
}

TEST(Totals, a_ratio_over_no_forward_is_zero_and_absent_phases_count_nothing) {
  EXPECT_EQ(ratio({}, &Cost::flop).plain, 0);
  const PhaseCosts phases = {{Phase::kForward, {.flop = 4}}, {Phase::kUpdate, {.flop = 6}}};
  EXPECT_EQ(ratio(phases, &Cost::flop).plain, 0);
  EXPECT_EQ(ratio(phases, &Cost::flop).with_update, 1.5);
  EXPECT_EQ(ratio(phases, &Cost::traffic_bytes).plain, 0);
}

TEST(InitialValues, targets_are_classes_and_constants_constant) {
  const StepProgram program = program_of("residual", 200);
  const InitialValues target(program, program.target, 1);
  std::set<double> classes;
  for (int64_t i = 0; i < 200; ++i) classes.insert(target(i));
  EXPECT_EQ(classes, (std::set<double>{0, 1, 2}));
  const InitialValues gamma(program, find(program, "norm0.weight"), 1);
  const InitialValues beta(program, find(program, "norm0.bias"), 1);
  EXPECT_EQ(gamma(5), 1);
  EXPECT_EQ(beta(5), 0);
}

TEST(InitialValues, weights_are_truncated_normal_over_the_root_of_fan_in) {
  const StepProgram program = lower(network_from(R"({"name": "wide", "input": {"shape": [100]},
    "loss": {"kind": "mean_square"}, "layers": [{"name": "fc", "kind": "linear", "out_features": 200}]})"),
                                    1, Sgd{});
  const InitialValues weight(program, find(program, "fc.weight"), 1);
  double square = 0;
  for (int64_t i = 0; i < 20000; ++i) {
    EXPECT_LE(std::abs(weight(i)), 0.3 + 1e-6);
    square += weight(i) * weight(i) / 20000;
  }
  EXPECT_NEAR(square, 0.01 * 0.973337, 4 * 0.01 * std::sqrt(2.0 / 20000));
}

TEST(InitialValues, depend_on_name_seed_and_index_alone) {
  const StepProgram small_batch = program_of("mlp", 2);
  const StepProgram large_batch = program_of("mlp", 64, Adam{});
  for (const char* name : {"input", "fc1.weight", "fc3.bias"}) {
    const InitialValues a(small_batch, find(small_batch, name), 7);
    const InitialValues b(large_batch, find(large_batch, name), 7);
    const InitialValues other_seed(small_batch, find(small_batch, name), 8);
    for (int64_t i = 0; i < 5; ++i) {
      EXPECT_EQ(a(i), b(i));
      EXPECT_NE(a(i), other_seed(i));
    }
  }
}

}  // namespace
}  // namespace triphase
