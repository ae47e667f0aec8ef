// SPDX-License-Identifier: Apache-2.0
// Kernels taken out of steps: the same operands and cost as in the step, and one name for one kind of work.
#include "program/kernel.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "networks.h"

namespace triphase {
namespace {

struct Origin {
  StepProgram program;
  std::string where;
};

// Every small network, by several optimizers and batches.
std::vector<Origin> programs() {
  std::vector<Origin> all;
  for (const NamedNetwork& named : small_networks()) {
    for (const int64_t batch : {1, 6}) {
      for (const std::string& optimizer : optimizer_names()) {
        all.push_back({lower(network_from(named.json), batch, optimizer_named(optimizer)),
                       named.name + " batch " + std::to_string(batch) + " " + optimizer});
      }
    }
  }
  return all;
}

int only_op_of_phase(const Kernel& kernel) {
  int found = -1;
  for (size_t i = 0; i < kernel.program.ops.size(); ++i) {
    if (kernel.program.ops[i].phase != kernel.phase) continue;
    EXPECT_EQ(found, -1);
    found = static_cast<int>(i);
  }
  return found;
}

TEST(Kernel, one_op_alone_has_the_operands_and_the_cost_that_it_has_in_the_step) {
  for (const Origin& origin : programs()) {
    for (int op = 0; op < static_cast<int>(origin.program.ops.size()); ++op) {
      const Op& before = origin.program.ops[static_cast<size_t>(op)];
      const Kernel kernel = extract(origin.program, std::vector{op});
      const Op& after = kernel.program.ops[static_cast<size_t>(only_op_of_phase(kernel))];
      EXPECT_EQ(kernel.phase, before.phase);
      EXPECT_EQ(after.kind.index(), before.kind.index());
      EXPECT_EQ(kernel.program.types(after.inputs), origin.program.types(before.inputs)) << origin.where;
      EXPECT_EQ(kernel.program.types(after.outputs), origin.program.types(before.outputs)) << origin.where;
      EXPECT_EQ(cost(kernel), cost(origin.program, before)) << origin.where << " " << name_of(kernel);
      EXPECT_EQ(op_name(kernel), name_of(before.kind));
    }
  }
}

TEST(Kernel, all_that_an_op_reads_is_given_but_a_pools_taps) {
  int pools = 0;
  for (const Origin& origin : programs()) {
    for (int op = 0; op < static_cast<int>(origin.program.ops.size()); ++op) {
      const Kernel kernel = extract(origin.program, std::vector{op});
      const bool taps = std::holds_alternative<MaxPool2dBackward>(origin.program.ops[static_cast<size_t>(op)].kind);
      pools += taps;
      ASSERT_EQ(kernel.program.ops.size(), taps ? 2 : 1);
      if (taps) {
        EXPECT_TRUE(std::holds_alternative<MaxPool2d>(kernel.program.ops[0].kind));
        EXPECT_EQ(kernel.program.ops[0].phase, Phase::kForward);
        EXPECT_EQ(kernel.program.ops[1].inputs[1], kernel.program.ops[0].outputs[1]);
      }
    }
  }
  EXPECT_GT(pools, 0);
}

TEST(Kernel, several_ops_cost_the_sum_and_pass_values_on_inside) {
  const Network network = network_from(small_networks()[0].json);
  const StepProgram program = lower(network, 4, Sgd{});
  ASSERT_EQ(name_of(program.ops[0].kind), "matmul");
  const Kernel kernel = extract(program, std::vector{0, 1, 2});
  EXPECT_EQ(op_name(kernel), "matmul+add_bias+relu");
  EXPECT_EQ(name_of(kernel), "matmul+add_bias+relu/in:4x7,33x7,33/out:4x33");
  Cost sum;
  for (size_t op = 0; op < 3; ++op) sum += cost(program, program.ops[op]);
  EXPECT_EQ(cost(kernel), sum);
  EXPECT_EQ(operand_bytes(kernel), 4 * (4 * 7 + 33 * 7 + 33 + 4 * 33));
}

TEST(Kernel, an_update_fetches_what_it_replaces_once) {
  const StepProgram program = lower(network_from(small_networks()[0].json), 4, optimizer_named("adam"));
  for (int op = 0; op < static_cast<int>(program.ops.size()); ++op) {
    if (program.ops[static_cast<size_t>(op)].phase != Phase::kUpdate) continue;
    const Kernel kernel = extract(program, std::vector{op});
    const int64_t elements = element_count(program.tensor(program.ops[static_cast<size_t>(op)].outputs[0]).type.shape);
    EXPECT_EQ(operand_bytes(kernel), 4 * 4 * elements);  // weight, gradient and two states
    EXPECT_GT(cost(kernel).traffic_bytes, operand_bytes(kernel));
  }
}

// All that makes a difference to what a kernel does, down to which operand is which; not its epsilon and the like.
std::string structure(const Kernel& kernel) {
  std::string text(to_string(kernel.phase));
  const auto add = [&](const auto& number) { text += " " + std::to_string(number); };
  const auto add_window = [&](const Window& window) {
    for (const auto& pair : {window.kernel, window.stride, window.padding, window.dilation}) {
      for (const int64_t n : pair) add(n);
    }
  };
  for (const Op& op : kernel.program.ops) {
    text += "\n" + std::string(name_of(op.kind)) + "@" + std::string(to_string(op.phase));
    std::visit(
        Overloaded{
            [&](const MatMul& kind) { add(int{kind.transpose_a}), add(int{kind.transpose_b}); },
            [&](const Conv2d& kind) { add_window(kind.window), add(kind.groups); },
            [&](const Conv2dBackwardData& kind) { add_window(kind.conv.window), add(kind.conv.groups); },
            [&](const Conv2dBackwardWeights& kind) { add_window(kind.conv.window), add(kind.conv.groups); },
            [&](const MaxPool2d& kind) { add_window(kind.window); },
            [&](const MaxPool2dBackward& kind) { add_window(kind.window); },
            [&](const AvgPool2d& kind) { add_window(kind.window), add(int{kind.count_include_pad}); },
            [&](const AvgPool2dBackward& kind) { add_window(kind.pool.window), add(int{kind.pool.count_include_pad}); },
            [&](const Update& kind) { add(kind.optimizer.index()); },
            [](const auto&) {},
        },
        op.kind);
    for (const auto* ids : {&op.inputs, &op.outputs}) {
      text += " |";
      for (const TensorId id : *ids) {
        const Tensor& tensor = kernel.program.tensor(id);
        add(id);
        text += to_string(tensor.type.shape) + std::string(to_string(tensor.type.dtype)) + tensor.name;
      }
    }
  }
  return text;
}

TEST(Kernel, one_name_is_one_kind_of_work) {
  std::map<std::string, std::string> structure_of;
  std::map<std::string, std::string> name_for;
  for (const Origin& origin : programs()) {
    for (int op = 0; op < static_cast<int>(origin.program.ops.size()); ++op) {
      const Kernel kernel = extract(origin.program, std::vector{op});
      const std::string name = name_of(kernel) + "/" + std::string(to_string(kernel.phase));
      const std::string work = structure(kernel);
      EXPECT_EQ(structure_of.emplace(name, work).first->second, work) << origin.where << ": " << name;
      EXPECT_EQ(name_for.emplace(work, name).first->second, name) << origin.where << ": " << work;
    }
  }
  EXPECT_GT(structure_of.size(), 300);
}

TEST(Kernel, a_name_says_attributes_only_where_they_are_unusual) {
  const StepProgram program = lower(network_from(small_networks()[3].json), 2, Sgd{});  // convnet
  std::set<std::string> names;
  for (int op = 0; op < static_cast<int>(program.ops.size()); ++op)
    names.insert(name_of(extract(program, std::vector{op})));
  EXPECT_TRUE(names.contains("conv2d/in:2x3x21x18,5x3x5x5/out:2x5x11x9/stride:2x2/padding:2x2"));
  EXPECT_TRUE(names.contains("conv2d/in:2x5x5x4,18x5x3x2/out:2x18x5x3/padding:1x0"));
  EXPECT_TRUE(names.contains("max_pool2d/in:2x5x11x9/out:2x5x5x4,2x5x5x4/kernel:3x3/stride:2x2"));
  EXPECT_TRUE(names.contains("relu/in:2x5x11x9/out:2x5x11x9"));
  EXPECT_TRUE(names.contains("softmax_cross_entropy/in:2x4,2/out:scalar,2x4"));
  EXPECT_TRUE(names.contains("update/in:4x18,4x18/out:4x18/optimizer:sgd"));
}

TEST(Kernel, ops_of_two_phases_are_refused) {
  const StepProgram program = lower(network_from(small_networks()[0].json), 2, Sgd{});
  const int last = static_cast<int>(program.ops.size()) - 1;
  EXPECT_THROW(extract(program, std::vector{0, last}), std::invalid_argument);
}

}  // namespace
}  // namespace triphase
