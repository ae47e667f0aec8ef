// SPDX-License-Identifier: Apache-2.0
// The types of every op's outputs, what each op refuses, and the arithmetic of windows.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>
#include <stdexcept>

#include "ops/ops.h"

namespace triphase {
namespace {

using Types = std::vector<TensorType>;

TensorType f32(Shape shape) { return {std::move(shape), DType::kF32}; }
TensorType s32(Shape shape) { return {std::move(shape), DType::kS32}; }
TensorType u8(Shape shape) { return {std::move(shape), DType::kU8}; }
TensorType bf16(Shape shape) { return {std::move(shape), DType::kBF16}; }

constexpr Window kSame = {.kernel = {3, 3}, .padding = {1, 1}};
constexpr Window kHalf = {.kernel = {2, 2}, .stride = {2, 2}};
constexpr Window kWide = {.kernel = {17, 16}, .stride = {17, 16}};

struct Inference {
  OpKind kind;
  Types inputs;
  Types outputs;
};

const std::vector<Inference>& inferences() {
  static const std::vector<Inference> table = {
      {MatMul{}, {f32({2, 3}), f32({3, 5})}, {f32({2, 5})}},
      {MatMul{.transpose_a = true}, {f32({3, 2}), f32({3, 5})}, {f32({2, 5})}},
      {MatMul{.transpose_b = true}, {f32({2, 3}), f32({5, 3})}, {f32({2, 5})}},
      {MatMul{true, true}, {f32({3, 2}), f32({5, 3})}, {f32({2, 5})}},
      {AddBias{}, {f32({2, 3}), f32({3})}, {f32({2, 3})}},
      {AddBias{}, {f32({2, 3, 4, 5}), f32({3})}, {f32({2, 3, 4, 5})}},
      {BiasGradient{}, {f32({2, 3})}, {f32({3})}},
      {BiasGradient{}, {f32({2, 3, 4, 5})}, {f32({3})}},
      {Conv2d{kSame}, {f32({2, 3, 8, 9}), f32({4, 3, 3, 3})}, {f32({2, 4, 8, 9})}},
      {Conv2d{kHalf, 3}, {f32({2, 6, 8, 9}), f32({9, 2, 2, 2})}, {f32({2, 9, 4, 4})}},
      {Conv2dBackwardData{{kSame}, {2, 3, 8, 9}}, {f32({2, 4, 8, 9}), f32({4, 3, 3, 3})}, {f32({2, 3, 8, 9})}},
      {Conv2dBackwardWeights{{kSame}, {4, 3, 3, 3}}, {f32({2, 4, 8, 9}), f32({2, 3, 8, 9})}, {f32({4, 3, 3, 3})}},
      {Relu{}, {f32({2, 3, 4})}, {f32({2, 3, 4})}},
      {ReluBackward{}, {f32({2, 3}), f32({2, 3})}, {f32({2, 3})}},
      {MaxPool2d{kHalf}, {f32({2, 3, 8, 9})}, {f32({2, 3, 4, 4}), u8({2, 3, 4, 4})}},
      {MaxPool2d{kWide}, {f32({1, 1, 34, 34})}, {f32({1, 1, 2, 2}), s32({1, 1, 2, 2})}},
      {MaxPool2dBackward{kHalf, {2, 3, 8, 9}}, {f32({2, 3, 4, 4}), u8({2, 3, 4, 4})}, {f32({2, 3, 8, 9})}},
      {AvgPool2d{kHalf}, {f32({2, 3, 8, 9})}, {f32({2, 3, 4, 4})}},
      {AvgPool2dBackward{{kHalf}, {2, 3, 8, 9}}, {f32({2, 3, 4, 4})}, {f32({2, 3, 8, 9})}},
      {BatchNorm2d{}, {f32({2, 3, 4, 5}), f32({3}), f32({3})}, {f32({2, 3, 4, 5}), f32({3}), f32({3})}},
      {BatchNorm2dBackward{},
       {f32({2, 3, 4, 5}), f32({2, 3, 4, 5}), f32({3}), f32({3}), f32({3})},
       {f32({3}), f32({3}), f32({2, 3, 4, 5})}},
      {BatchNorm2dBackward{.data_gradient = false},
       {f32({2, 3, 4, 5}), f32({2, 3, 4, 5}), f32({3}), f32({3}), f32({3})},
       {f32({3}), f32({3})}},
      {RunningStatistics{}, {f32({3}), f32({3}), f32({3}), f32({3})}, {f32({3}), f32({3})}},
      {Add{}, {f32({2, 3}), f32({2, 3})}, {f32({2, 3})}},
      {Reshape{{2, 60}}, {f32({2, 3, 4, 5})}, {f32({2, 60})}},
      {Reshape{{6}}, {u8({2, 3})}, {u8({6})}},
      {SoftmaxCrossEntropy{}, {f32({2, 10}), s32({2})}, {f32({}), f32({2, 10})}},
      {SoftmaxCrossEntropyBackward{}, {f32({2, 10}), s32({2})}, {f32({2, 10})}},
      {MeanSquare{}, {f32({2, 3, 4})}, {f32({})}},
      {MeanSquareBackward{}, {f32({2, 3, 4})}, {f32({2, 3, 4})}},
      {Update{Sgd{}}, {f32({5, 3}), f32({5, 3}), f32({1})}, {f32({5, 3})}},
      {Update{Momentum{}}, {f32({5}), f32({5}), f32({1}), f32({5})}, {f32({5}), f32({5})}},
      {Update{Adam{}}, {f32({5}), f32({5}), f32({2}), f32({5}), f32({5})}, {f32({5}), f32({5}), f32({5})}},
      {Convert{DType::kBF16}, {f32({5, 3})}, {bf16({5, 3})}},
      {MatMul{}, {bf16({2, 3}), bf16({3, 5})}, {bf16({2, 5})}},
      {AddBias{}, {bf16({2, 3}), bf16({3})}, {bf16({2, 3})}},
      {BiasGradient{}, {bf16({2, 3})}, {bf16({3})}},
      {Conv2d{kSame}, {bf16({2, 3, 8, 9}), bf16({4, 3, 3, 3})}, {bf16({2, 4, 8, 9})}},
      {Conv2dBackwardWeights{{kSame}, {4, 3, 3, 3}}, {bf16({2, 4, 8, 9}), bf16({2, 3, 8, 9})}, {bf16({4, 3, 3, 3})}},
      {MaxPool2d{kHalf}, {bf16({2, 3, 8, 9})}, {bf16({2, 3, 4, 4}), u8({2, 3, 4, 4})}},
      {MaxPool2dBackward{kHalf, {2, 3, 8, 9}}, {bf16({2, 3, 4, 4}), u8({2, 3, 4, 4})}, {bf16({2, 3, 8, 9})}},
      {BatchNorm2d{}, {bf16({2, 3, 4, 5}), f32({3}), f32({3})}, {bf16({2, 3, 4, 5}), f32({3}), f32({3})}},
      {BatchNorm2dBackward{},
       {bf16({2, 3, 4, 5}), bf16({2, 3, 4, 5}), f32({3}), f32({3}), f32({3})},
       {f32({3}), f32({3}), bf16({2, 3, 4, 5})}},
      {SoftmaxCrossEntropy{}, {bf16({2, 10}), s32({2})}, {f32({}), bf16({2, 10})}},
      {MeanSquare{}, {bf16({2, 3})}, {f32({})}},
      {Update{Momentum{}}, {f32({5}), bf16({5}), f32({1}), f32({5})}, {f32({5}), f32({5})}},
  };
  return table;
}

TEST(Infer, outputs_of_every_op_have_the_types_that_its_definition_gives) {
  std::set<size_t> kinds;
  for (const Inference& item : inferences()) {
    EXPECT_EQ(infer(item.kind, item.inputs), item.outputs) << name_of(item.kind);
    kinds.insert(item.kind.index());
  }
  EXPECT_EQ(kinds.size(), std::variant_size_v<OpKind>) << "a kind is missing from the table";
}

TEST(Infer, every_op_refuses_one_operand_too_few_or_too_many) {
  for (const Inference& item : inferences()) {
    Types fewer = item.inputs;
    fewer.pop_back();
    EXPECT_THROW(infer(item.kind, fewer), std::invalid_argument) << name_of(item.kind);
    Types more = item.inputs;
    more.push_back(item.inputs.back());
    EXPECT_THROW(infer(item.kind, more), std::invalid_argument) << name_of(item.kind);
  }
}

TEST(Infer, names_are_distinct_and_in_the_order_of_the_list) {
  std::set<std::string_view> names;
  for (const Inference& item : inferences()) names.insert(name_of(item.kind));
  EXPECT_EQ(names.size(), std::variant_size_v<OpKind>);
  EXPECT_EQ(name_of(MatMul{}), "matmul");
  EXPECT_EQ(name_of(Conv2dBackwardWeights{}), "conv2d_backward_weights");
  EXPECT_EQ(name_of(SoftmaxCrossEntropy{}), "softmax_cross_entropy");
  EXPECT_EQ(name_of(Update{}), "update");
}

struct Refusal {
  OpKind kind;
  Types inputs;
  const char* message;
};

TEST(Infer, what_does_not_fit_is_refused_with_the_shapes_found) {
  const Refusal table[] = {
      {MatMul{}, {f32({2, 3}), f32({4, 5})}, "expected one contracted extent, found shapes [2, 3] and [4, 5]"},
      {MatMul{true, false}, {f32({2, 3}), f32({3, 5})}, "expected one contracted extent"},
      {MatMul{false, true}, {f32({2, 3}), f32({3, 5})}, "expected one contracted extent"},
      {MatMul{}, {f32({2, 3, 4}), f32({4, 5})}, "expected a tensor of rank 2, found shape [2, 3, 4]"},
      {MatMul{}, {f32({2, 3}), f32({3})}, "expected a tensor of rank 2, found shape [3]"},
      {AddBias{}, {f32({2, 3}), f32({2})}, "expected a bias per channel, found shapes [2, 3] and [2]"},
      {AddBias{}, {f32({3}), f32({3})}, "expected a bias per channel"},
      {BiasGradient{}, {f32({3})}, "expected a batch of channels, found shape [3]"},
      {Conv2d{kSame}, {f32({2, 3, 8, 8}), f32({4, 2, 3, 3})}, "expected channels divided by groups"},
      {Conv2d{kSame, 2}, {f32({2, 4, 8, 8}), f32({3, 2, 3, 3})}, "expected channels divided by groups"},
      {Conv2d{kSame}, {f32({2, 3, 8}), f32({4, 3, 3, 3})}, "expected a tensor of rank 4"},
      {Conv2d{{.kernel = {9, 3}}}, {f32({2, 3, 8, 8}), f32({4, 3, 9, 3})}, "no smaller than the window"},
      {ReluBackward{}, {f32({2, 3}), f32({3, 2})}, "expected equal shapes, found [2, 3] and [3, 2]"},
      {MaxPool2d{kHalf}, {f32({2, 3, 1, 8})}, "no smaller than the window, found shape [2, 3, 1, 8]"},
      {MaxPool2d{kHalf}, {f32({2, 3})}, "expected a tensor of rank 4, found shape [2, 3]"},
      {MaxPool2dBackward{kHalf, {1, 1, 4, 4}}, {f32({1, 1, 2, 2}), u8({1, 1, 2, 1})}, "expected equal shapes"},
      {AvgPool2d{kHalf}, {f32({2, 3, 8, 1})}, "no smaller than the window"},
      {BatchNorm2d{}, {f32({2, 3, 4, 5}), f32({4}), f32({3})}, "expected gamma and beta per channel"},
      {BatchNorm2d{}, {f32({2, 3, 4, 5}), f32({3}), f32({2})}, "expected gamma and beta per channel"},
      {BatchNorm2d{}, {f32({2, 3}), f32({3}), f32({3})}, "expected a tensor of rank 4"},
      {Add{}, {f32({2, 3}), f32({2, 4})}, "expected equal shapes"},
      {Add{}, {f32({2, 3}), bf16({2, 3})}, "expected operands of one type, found f32 and bf16"},
      {MatMul{}, {bf16({2, 3}), f32({3, 5})}, "expected operands of one type, found bf16 and f32"},
      {AddBias{}, {bf16({2, 3}), f32({3})}, "expected operands of one type"},
      {Conv2d{kSame}, {bf16({2, 3, 8, 8}), f32({4, 3, 3, 3})}, "expected operands of one type"},
      {Reshape{{7}}, {f32({2, 3})}, "expected as many elements as [2, 3], found [7]"},
      {SoftmaxCrossEntropy{}, {f32({2, 10}), s32({3})}, "expected one target a row"},
      {SoftmaxCrossEntropy{}, {f32({2, 10, 1}), s32({2})}, "expected a tensor of rank 2"},
      {Update{Sgd{}}, {f32({5}), f32({4}), f32({1})}, "expected equal shapes"},
      {Update{Momentum{}}, {f32({5}), f32({5}), f32({1}), f32({4})}, "expected equal shapes"},
      {Update{Adam{}}, {f32({5}), f32({5}), f32({2})}, "expected 5 operands, found 3"},
  };
  for (const Refusal& item : table) {
    try {
      infer(item.kind, item.inputs);
      ADD_FAILURE() << name_of(item.kind) << " accepted what should give: " << item.message;
    } catch (const std::invalid_argument& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr(item.message)) << name_of(item.kind);
    }
  }
}

TEST(Infer, outputs_too_large_to_count_throw_SizeOverflow) {
  const int64_t huge = int64_t{1} << 40;
  EXPECT_THROW(infer(MatMul{}, {f32({huge, 1}), f32({1, huge})}), SizeOverflow);
  EXPECT_THROW(infer(Conv2d{}, {f32({huge, 1, 1, 1}), f32({huge, 1, 1, 1})}), SizeOverflow);
}

struct Sliding {
  int64_t input, kernel, stride, padding, dilation, output;
};

TEST(Window, output_is_PyTorchs_formula) {
  const Sliding table[] = {
      {224, 7, 2, 3, 1, 112}, {112, 3, 2, 0, 1, 55}, {112, 3, 2, 1, 1, 56}, {55, 7, 2, 3, 1, 28},
      {28, 3, 2, 0, 1, 13},   {55, 3, 1, 1, 1, 55},  {1, 1, 1, 0, 1, 1},    {5, 5, 1, 0, 1, 1},
      {5, 5, 9, 0, 1, 1},     {5, 2, 1, 0, 4, 1},    {7, 3, 1, 0, 3, 1},    {9, 3, 2, 0, 2, 3},
      {1, 3, 1, 1, 1, 1},     {1, 1, 3, 5, 1, 4},    {5, 6, 1, 0, 1, 0},  // the kernel is larger than the input
      {5, 9, 2, 1, 1, 0},                                                 // even with padding
      {5, 7, 2, 1, 1, 1},                                                 // exactly as large with padding
      {6, 3, 1, 0, 3, 0},                                                 // dilation makes it reach too far
      {1, 2, 1, 0, 1, 0},
  };
  for (const Sliding& w : table) {
    for (int d = 0; d < 2; ++d) {
      Window window;
      window.kernel[d] = w.kernel;
      window.stride[d] = w.stride;
      window.padding[d] = w.padding;
      window.dilation[d] = w.dilation;
      EXPECT_EQ(window_output(window, d, w.input), w.output)
          << "input " << w.input << " kernel " << w.kernel << " stride " << w.stride;
      EXPECT_EQ(window_output(window, 1 - d, w.input), w.input) << "the other dimension stays as it is";
    }
  }
}

// The number of positions at which the dilated kernel lies within the padded input.
TEST(Window, output_counts_the_positions_that_fit) {
  std::mt19937_64 engine(4);
  const auto random = [&](int64_t low, int64_t high) {
    return low + static_cast<int64_t>(engine() % static_cast<uint64_t>(high - low + 1));
  };
  for (int trial = 0; trial < 5000; ++trial) {
    const int64_t input = random(1, 20);
    const Window window{.kernel = {random(1, 7), 1},
                        .stride = {random(1, 4), 1},
                        .padding = {random(0, 5), 0},
                        .dilation = {random(1, 3), 1}};
    int64_t positions = 0;
    for (int64_t begin = -window.padding[0];
         begin + window.dilation[0] * (window.kernel[0] - 1) < input + window.padding[0]; begin += window.stride[0]) {
      ++positions;
    }
    EXPECT_EQ(window_output(window, 0, input), positions);
  }
}

TEST(Window, sizes_that_overflow_throw) {
  Window window;
  window.kernel[0] = int64_t{1} << 40;
  window.dilation[0] = int64_t{1} << 40;
  EXPECT_THROW(window_output(window, 0, 5), SizeOverflow);
  window = {};
  window.padding[0] = int64_t{1} << 62;
  EXPECT_THROW(window_output(window, 0, 5), SizeOverflow);
}

}  // namespace
}  // namespace triphase
