// SPDX-License-Identifier: Apache-2.0
// Cost formulas as facts and as properties over random shapes. What is really executed is counted elsewhere, by the
// reference on the counting scalar.
#include "ops/cost.h"

#include <gtest/gtest.h>

#include <functional>
#include <random>

namespace triphase {
namespace {

using Types = std::vector<TensorType>;

TensorType f32(Shape shape) { return {std::move(shape), DType::kF32}; }

Cost cost_of(const OpKind& kind, const Types& inputs) { return cost(kind, inputs, infer(kind, inputs)); }

// A convolution's shapes, and its three products.
struct Convolution {
  int64_t batch = 1, channels = 1, filters = 1, groups = 1;
  int64_t height = 1, width = 1;
  Window window;

  Shape x() const { return {batch, channels, height, width}; }
  Shape w() const { return {filters, channels / groups, window.kernel[0], window.kernel[1]}; }
  Shape y() const { return {batch, filters, window_output(window, 0, height), window_output(window, 1, width)}; }
  bool fits() const { return y()[2] > 0 && y()[3] > 0; }
  Cost forward() const { return cost_of(Conv2d{window, groups}, {f32(x()), f32(w())}); }
  Cost backward_data() const { return cost_of(Conv2dBackwardData{{window, groups}, x()}, {f32(y()), f32(w())}); }
  Cost backward_weights() const { return cost_of(Conv2dBackwardWeights{{window, groups}, w()}, {f32(y()), f32(x())}); }
};

void for_each_random_convolution(int count, const std::function<void(const Convolution&)>& f) {
  std::mt19937_64 engine(23);
  const auto random = [&](int64_t low, int64_t high) {
    return low + static_cast<int64_t>(engine() % static_cast<uint64_t>(high - low + 1));
  };
  for (int done = 0; done < count;) {
    const int64_t groups = random(1, 4);
    const Convolution conv{.batch = random(1, 5),
                           .channels = groups * random(1, 4),
                           .filters = groups * random(1, 4),
                           .groups = groups,
                           .height = random(1, 14),
                           .width = random(1, 14),
                           .window = {.kernel = {random(1, 5), random(1, 5)},
                                      .stride = {random(1, 3), random(1, 3)},
                                      .padding = {random(0, 4), random(0, 4)},
                                      .dilation = {random(1, 2), random(1, 2)}}};
    if (!conv.fits()) continue;
    ++done;
    f(conv);
  }
}

// Multiply-accumulates by looking at every tap of every output.
int64_t taps_inside(const Convolution& conv) {
  const Window& v = conv.window;
  int64_t taps = 0;
  for (int64_t oh = 0; oh < conv.y()[2]; ++oh) {
    for (int64_t ow = 0; ow < conv.y()[3]; ++ow) {
      for (int64_t i = 0; i < v.kernel[0]; ++i) {
        for (int64_t j = 0; j < v.kernel[1]; ++j) {
          const int64_t h = oh * v.stride[0] - v.padding[0] + i * v.dilation[0];
          const int64_t w = ow * v.stride[1] - v.padding[1] + j * v.dilation[1];
          taps += h >= 0 && h < conv.height && w >= 0 && w < conv.width;
        }
      }
    }
  }
  return conv.batch * conv.filters * conv.channels / conv.groups * taps;
}

TEST(Cost, MatMul_is_two_per_multiply_accumulate_and_executes_one_addition_less_a_result) {
  for (const bool a : {false, true}) {
    for (const bool b : {false, true}) {
      const Cost cost = cost_of(MatMul{a, b}, {f32(a ? Shape{7, 3} : Shape{3, 7}), f32(b ? Shape{5, 7} : Shape{7, 5})});
      EXPECT_EQ(cost.flop, 2 * 3 * 5 * 7);
      EXPECT_EQ(cost.flop_unpadded, 2 * 3 * 5 * 7);
      EXPECT_EQ(cost.flop_executed, 3 * 5 * (7 + 6));
      EXPECT_EQ(cost.traffic_bytes, 4 * (3 * 7 + 7 * 5 + 3 * 5));
    }
  }
}

TEST(Cost, an_outer_product_executes_half_of_its_nominal_flop) {
  const Cost cost = cost_of(MatMul{.transpose_a = true}, {f32({1, 4096}), f32({1, 128})});
  EXPECT_EQ(cost.flop, 2 * 4096 * 128);
  EXPECT_EQ(cost.flop_executed, 4096 * 128);
}

TEST(Cost, all_three_products_of_a_convolution_cost_alike) {
  for_each_random_convolution(500, [](const Convolution& conv) {
    const Cost forward = conv.forward();
    for (const Cost& backward : {conv.backward_data(), conv.backward_weights()}) {
      EXPECT_EQ(backward.flop, forward.flop);
      EXPECT_EQ(backward.flop_unpadded, forward.flop_unpadded);
      EXPECT_EQ(backward.traffic_bytes, forward.traffic_bytes) << "each reads two and writes the third";
    }
  });
}

TEST(Cost, nominal_flop_of_a_convolution_are_2NKC_over_groups_times_kernel_times_plane) {
  for_each_random_convolution(500, [](const Convolution& conv) {
    const int64_t area = conv.window.kernel[0] * conv.window.kernel[1] * conv.y()[2] * conv.y()[3];
    EXPECT_EQ(conv.forward().flop, 2 * conv.batch * conv.filters * (conv.channels / conv.groups) * area);
  });
}

TEST(Cost, unpadded_flop_are_the_taps_that_fall_on_an_input) {
  int fewer = 0;
  for_each_random_convolution(500, [&](const Convolution& conv) {
    const Cost cost = conv.forward();
    EXPECT_EQ(cost.flop_unpadded, 2 * taps_inside(conv));
    EXPECT_LE(cost.flop_unpadded, cost.flop);
    EXPECT_LE(cost.flop_executed, cost.flop_unpadded);
    fewer += cost.flop_unpadded < cost.flop;
  });
  EXPECT_GT(fewer, 100);
}

TEST(Cost, without_padding_both_conventions_agree) {
  for_each_random_convolution(500, [](Convolution conv) {
    conv.window.padding = {0, 0};
    if (!conv.fits()) return;
    EXPECT_EQ(conv.forward().flop_unpadded, conv.forward().flop);
  });
}

TEST(Cost, flop_grow_in_proportion_to_the_batch) {
  for_each_random_convolution(200, [](const Convolution& conv) {
    Convolution more = conv;
    more.batch *= 7;
    for (const auto product : {&Convolution::forward, &Convolution::backward_data, &Convolution::backward_weights}) {
      EXPECT_EQ((more.*product)().flop, 7 * (conv.*product)().flop);
      EXPECT_EQ((more.*product)().flop_unpadded, 7 * (conv.*product)().flop_unpadded);
    }
    EXPECT_EQ(more.forward().flop_executed, 7 * conv.forward().flop_executed);
    EXPECT_EQ(more.backward_data().flop_executed, 7 * conv.backward_data().flop_executed);
    EXPECT_GE(more.backward_weights().flop_executed, 7 * conv.backward_weights().flop_executed)
        << "its sums run over the batch: one addition saved for all of it";
  });
}

TEST(Cost, groups_divide_the_flop_of_a_convolution) {
  for_each_random_convolution(300, [](const Convolution& conv) {
    Convolution whole = conv;
    whole.groups = 1;
    for (const auto product : {&Convolution::forward, &Convolution::backward_data, &Convolution::backward_weights}) {
      EXPECT_EQ((conv.*product)().flop * conv.groups, (whole.*product)().flop);
      EXPECT_EQ((conv.*product)().flop_unpadded * conv.groups, (whole.*product)().flop_unpadded);
    }
  });
}

TEST(Cost, a_1x1_convolution_costs_what_the_matrix_product_does) {
  for (const int64_t batch : {1, 3}) {
    const Cost conv =
        Convolution{.batch = batch, .channels = 6, .filters = 10, .height = 4, .width = 5, .window = {}}.forward();
    const Cost product = cost_of(MatMul{.transpose_b = true}, {f32({batch * 20, 6}), f32({10, 6})});
    EXPECT_EQ(conv, product);
  }
}

// A same-size 3x3 on a 3x3 plane: of 81 taps, the corners miss 5 each, the edges 3 each.
TEST(Cost, a_padded_3x3_on_a_3x3_plane_has_49_taps_inside) {
  const Convolution conv{.height = 3, .width = 3, .window = {.kernel = {3, 3}, .padding = {1, 1}}};
  EXPECT_EQ(conv.forward().flop, 2 * 81);
  EXPECT_EQ(conv.forward().flop_unpadded, 2 * 49);
  EXPECT_EQ(conv.forward().flop_executed, 2 * 49 - 9);
}

TEST(Cost, only_contractions_and_updates_have_nominal_flop) {
  const Window half{.kernel = {2, 2}, .stride = {2, 2}};
  const TensorType x = f32({2, 3, 4, 4});
  const TensorType y = f32({2, 3, 2, 2});
  const TensorType c = f32({3});
  const std::vector<std::pair<OpKind, Types>> others = {
      {AddBias{}, {x, c}},
      {BiasGradient{}, {x}},
      {Relu{}, {x}},
      {ReluBackward{}, {x, x}},
      {MaxPool2d{half}, {x}},
      {MaxPool2dBackward{half, x.shape}, {y, {y.shape, DType::kU8}}},
      {AvgPool2d{half}, {x}},
      {AvgPool2dBackward{{half}, x.shape}, {y}},
      {BatchNorm2d{}, {x, c, c}},
      {BatchNorm2dBackward{}, {x, x, c, c, c}},
      {RunningStatistics{}, {c, c, c, c}},
      {Add{}, {x, x}},
      {SoftmaxCrossEntropy{}, {f32({2, 10}), {{2}, DType::kS32}}},
      {SoftmaxCrossEntropyBackward{}, {f32({2, 10}), {{2}, DType::kS32}}},
      {MeanSquare{}, {x}},
      {MeanSquareBackward{}, {x}},
  };
  for (const auto& [kind, inputs] : others) {
    const Cost cost = cost_of(kind, inputs);
    EXPECT_EQ(cost.flop, 0) << name_of(kind);
    EXPECT_EQ(cost.flop_unpadded, 0) << name_of(kind);
    EXPECT_GT(cost.flop_executed, 0) << name_of(kind);
    int64_t bytes = 0;
    for (const TensorType& type : inputs) bytes += element_count(type.shape) * size_in_bytes(type.dtype);
    for (const TensorType& type : infer(kind, inputs)) bytes += element_count(type.shape) * size_in_bytes(type.dtype);
    EXPECT_EQ(cost.traffic_bytes, bytes) << name_of(kind) << ": each operand once";
  }
}

TEST(Cost, a_reshape_costs_nothing_at_all) { EXPECT_EQ(cost_of(Reshape{{6}}, {f32({2, 3})}), Cost{}); }

TEST(Cost, taps_of_a_pool_are_a_byte_each) {
  const Window half{.kernel = {2, 2}, .stride = {2, 2}};
  EXPECT_EQ(cost_of(MaxPool2d{half}, {f32({1, 1, 4, 4})}).traffic_bytes, 4 * 16 + 4 * 4 + 4);
}

TEST(Cost, counts_beyond_63_bits_throw_SizeOverflow) {
  const int64_t large = int64_t{1} << 31;
  EXPECT_NO_THROW(cost_of(MatMul{}, {f32({large, 1}), f32({1, large / 8})}));
  EXPECT_THROW(cost_of(MatMul{}, {f32({large, large / 4}), f32({large / 4, large})}), SizeOverflow);
  EXPECT_THROW(cost_of(Relu{}, {f32({int64_t{1} << 62})}), SizeOverflow) << "its bytes";
  EXPECT_THROW(cost_of(Update{Adam{}}, {f32({int64_t{1} << 60}), f32({int64_t{1} << 60}), f32({2}),
                                        f32({int64_t{1} << 60}), f32({int64_t{1} << 60})}),
               SizeOverflow);
  EXPECT_THROW(
      (Convolution{.batch = int64_t{1} << 40, .channels = 1 << 12, .filters = 1 << 12, .window = {}}.forward()),
      SizeOverflow);
  Cost sum{.flop = INT64_MAX};
  EXPECT_THROW(sum += Cost{.flop = 1}, SizeOverflow);
}

TEST(Cost, sums_add_each_count) {
  Cost sum{1, 2, 3, 4};
  sum += Cost{10, 20, 30, 40};
  EXPECT_EQ(sum, (Cost{11, 22, 33, 44}));
}

}  // namespace
}  // namespace triphase
