// SPDX-License-Identifier: Apache-2.0
// What mixed precision changes of a step: the types that tensors are kept in, copies of weights that follow their
// updates, and with them bytes; and what it leaves alone.
#include "program/precision.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "networks.h"
#include "program/totals.h"

namespace triphase {
namespace {

constexpr Precision kMixed[] = {Precision::kBF16, Precision::kF16};

class Precisions : public testing::TestWithParam<NamedNetwork> {
 protected:
  StepProgram in(Precision precision) const {
    return with_precision(lower(network_from(GetParam().json), 3, Adam{}), precision);
  }
};

// The parameters that mixed precision copies: all but those of normalisations.
int64_t copied_count(const StepProgram& program) {
  int64_t count = 0;
  for (const Tensor& tensor : program.tensors) {
    if (tensor.master != kNoTensor) count += element_count(tensor.type.shape);
  }
  return count;
}

TEST_P(Precisions, tf32_is_the_same_list) {
  const StepProgram f32 = in(Precision::kF32);
  const StepProgram tf32 = in(Precision::kTF32);
  EXPECT_EQ(tf32.precision, Precision::kTF32);
  ASSERT_EQ(tf32.tensors.size(), f32.tensors.size());
  for (size_t i = 0; i < f32.tensors.size(); ++i) EXPECT_EQ(tf32.tensors[i].type, f32.tensors[i].type);
  EXPECT_EQ(totals(tf32).phases, totals(f32).phases);
}

TEST_P(Precisions, mixed_keeps_activations_and_gradients_narrow_and_statistics_and_masters_wide) {
  for (const Precision precision : kMixed) {
    const StepProgram program = in(precision);
    const DType narrow = dtype_of(precision);
    for (TensorId id = 0; id < static_cast<TensorId>(program.tensors.size()); ++id) {
      const Tensor& tensor = program.tensor(id);
      const bool of_norm =
          tensor.producer >= 0 && tensor.type.shape.size() == 1 &&
          (std::holds_alternative<BatchNorm2d>(program.ops[static_cast<size_t>(tensor.producer)].kind) ||
           std::holds_alternative<BatchNorm2dBackward>(program.ops[static_cast<size_t>(tensor.producer)].kind));
      switch (tensor.role) {
        case Role::kParameter:
        case Role::kState:
        case Role::kStatistic:
        case Role::kScalars:
          EXPECT_EQ(tensor.type.dtype, DType::kF32) << tensor.name;
          break;
        case Role::kInput:
        case Role::kCopy:
          EXPECT_EQ(tensor.type.dtype, narrow) << tensor.name;
          break;
        case Role::kGradient:
          EXPECT_EQ(tensor.type.dtype, of_norm ? DType::kF32 : narrow) << tensor.name;
          break;
        case Role::kValue:
          if (tensor.type.dtype == DType::kU8 || tensor.type.dtype == DType::kS32) break;  // taps
          EXPECT_EQ(tensor.type.dtype, of_norm || id == program.loss ? DType::kF32 : narrow) << tensor.name;
          break;
        case Role::kTarget:
          EXPECT_EQ(tensor.type.dtype, DType::kS32);
          break;
      }
    }
  }
}

TEST_P(Precisions, every_copy_follows_its_parameter_and_is_all_that_layers_read) {
  for (const Precision precision : kMixed) {
    const StepProgram program = in(precision);
    const auto op_at = [&](int op) -> const Op& { return program.ops[static_cast<size_t>(op)]; };
    int copies = 0;
    for (const Tensor& tensor : program.tensors) {
      if (tensor.master == kNoTensor) continue;
      ++copies;
      const Tensor& master = program.tensor(tensor.master);
      EXPECT_EQ(tensor.name, master.name + "." + std::string(to_string(precision)));
      EXPECT_EQ(tensor.type.shape, master.type.shape);
      ASSERT_EQ(master.readers.size(), 1) << "its update alone reads " << master.name;
      EXPECT_TRUE(std::holds_alternative<Update>(op_at(master.readers[0]).kind));
      ASSERT_NE(tensor.next, kNoTensor);
      const Op& convert = op_at(program.tensor(tensor.next).producer);
      EXPECT_TRUE(std::holds_alternative<Convert>(convert.kind));
      EXPECT_EQ(convert.inputs[0], master.next);
      EXPECT_EQ(convert.phase, Phase::kUpdate);
      EXPECT_EQ(convert.layer, op_at(master.readers[0]).layer);
    }
    EXPECT_GT(copies, 0);
  }
}

TEST_P(Precisions, f16_alone_scales_the_loss_where_gradients_begin_and_where_they_are_used) {
  const auto scales_of = [](const StepProgram& program) {
    std::multiset<double> scales;
    for (const Op& op : program.ops) {
      std::visit(
          [&](const auto& kind) {
            if constexpr (requires { kind.loss_scale; }) scales.insert(kind.loss_scale);
          },
          op.kind);
    }
    return scales;
  };
  const auto updates = static_cast<size_t>(std::ranges::count_if(
      in(Precision::kF16).ops, [](const Op& op) { return std::holds_alternative<Update>(op.kind); }));
  for (const auto& [precision, name] : kPrecisions) {
    const StepProgram program = in(precision);
    EXPECT_EQ(program.loss_scale, precision == Precision::kF16 ? 1024 : 1) << name;
    EXPECT_EQ(scales_of(program).size(), 1 + updates);
    EXPECT_EQ(scales_of(program).count(program.loss_scale), 1 + updates);
    const StepProgram asked = with_precision(lower(network_from(GetParam().json), 3, Adam{}), precision, 8);
    EXPECT_EQ(asked.loss_scale, precision == Precision::kF16 ? 8 : 1) << name;
    EXPECT_EQ(scales_of(asked).count(asked.loss_scale), 1 + updates);
  }
}

TEST_P(Precisions, mixed_computes_the_same_flop_from_fewer_bytes) {
  const StepProgram f32 = in(Precision::kF32);
  for (const Precision precision : kMixed) {
    const StepProgram mixed = in(precision);
    auto before = totals(f32).phases;
    auto after = totals(mixed).phases;
    for (const auto& [phase, cost] : before) {
      EXPECT_EQ(after[phase].flop, cost.flop);
      EXPECT_EQ(after[phase].flop_unpadded, cost.flop_unpadded);
      // In f16 each gradient is divided by the loss's scale.
      const bool divides = precision == Precision::kF16 && phase == Phase::kUpdate;
      EXPECT_EQ(after[phase].flop_executed, cost.flop_executed + (divides ? parameter_count(f32) : 0));
      if (phase == Phase::kUpdate) continue;
      EXPECT_LT(after[phase].traffic_bytes, cost.traffic_bytes);
    }
    // A gradient of 2 bytes instead of 4; the new parameter read again (4) and its copy written (2).
    const int64_t copied = copied_count(mixed);
    EXPECT_EQ(after[Phase::kUpdate].traffic_bytes, before[Phase::kUpdate].traffic_bytes + 4 * copied);
    EXPECT_EQ(parameter_count(mixed), parameter_count(f32));
    EXPECT_EQ(logical_memory(mixed).parameters, logical_memory(f32).parameters + 2 * copied);
    EXPECT_EQ(logical_memory(mixed).gradients, logical_memory(f32).gradients - 2 * copied);
    EXPECT_EQ(logical_memory(mixed).optimizer_state, logical_memory(f32).optimizer_state);
    EXPECT_EQ(logical_memory(mixed).statistics, logical_memory(f32).statistics);
    EXPECT_LT(logical_memory(mixed).activations, logical_memory(f32).activations);
  }
}

INSTANTIATE_TEST_SUITE_P(Small, Precisions, testing::ValuesIn(small_networks()),
                         [](const auto& test) { return test.param.name; });

TEST(Precision, names_are_read_as_they_are_written) {
  for (const auto& [precision, name] : kPrecisions) {
    EXPECT_EQ(to_string(precision), name);
    EXPECT_EQ(precision_named(name), precision);
  }
  EXPECT_EQ(precision_named("f64"), std::nullopt);
  EXPECT_EQ(precision_named(""), std::nullopt);
}

}  // namespace
}  // namespace triphase
