// SPDX-License-Identifier: Apache-2.0
// Names of the ops and the types of their outputs.
#include <stdexcept>

#include "ops/ops.h"

namespace triphase {
namespace {

using Types = std::vector<TensorType>;

void require(bool condition, const std::string& message) {
  if (!condition) throw std::invalid_argument(message);
}

void require_operands(const Types& in, size_t count) {
  require(in.size() == count, "expected " + std::to_string(count) + " operands, found " + std::to_string(in.size()));
}

void require_rank(const TensorType& type, size_t rank) {
  require(type.shape.size() == rank,
          "expected a tensor of rank " + std::to_string(rank) + ", found shape " + to_string(type.shape));
}

void require_same_shape(const TensorType& a, const TensorType& b) {
  require(a.shape == b.shape, "expected equal shapes, found " + to_string(a.shape) + " and " + to_string(b.shape));
}

void require_same_dtype(const TensorType& a, const TensorType& b) {
  require(a.dtype == b.dtype, "expected operands of one type, found " + std::string(to_string(a.dtype)) + " and " +
                                  std::string(to_string(b.dtype)));
}

TensorType typed(Shape shape, DType dtype) {
  element_count(shape);  // refuses what overflows
  return {std::move(shape), dtype};
}

TensorType f32(Shape shape) { return typed(std::move(shape), DType::kF32); }

Shape pooled(const Window& window, const Shape& x) {
  const int64_t height = window_output(window, 0, x[2]);
  const int64_t width = window_output(window, 1, x[3]);
  require(height > 0 && width > 0, "expected an input no smaller than the window, found shape " + to_string(x));
  return {x[0], x[1], height, width};
}

struct Infer {
  const Types& in;

  // Results are kept as the first operand is, unless an op says otherwise.
  TensorType like_first(Shape shape) const { return typed(std::move(shape), in[0].dtype); }

  Types operator()(const MatMul& op) const {
    require_operands(in, 2);
    require_rank(in[0], 2);
    require_rank(in[1], 2);
    const Shape& a = in[0].shape;
    const Shape& b = in[1].shape;
    require(a[op.transpose_a ? 0 : 1] == b[op.transpose_b ? 1 : 0],
            "expected one contracted extent, found shapes " + to_string(a) + " and " + to_string(b));
    require_same_dtype(in[0], in[1]);
    return {like_first({a[op.transpose_a ? 1 : 0], b[op.transpose_b ? 0 : 1]})};
  }
  Types operator()(const AddBias&) const {
    require_operands(in, 2);
    require(in[0].shape.size() >= 2 && in[1].shape == Shape{in[0].shape[1]},
            "expected a bias per channel, found shapes " + to_string(in[0].shape) + " and " + to_string(in[1].shape));
    require_same_dtype(in[0], in[1]);
    return {in[0]};
  }
  Types operator()(const BiasGradient&) const {
    require_operands(in, 1);
    require(in[0].shape.size() >= 2, "expected a batch of channels, found shape " + to_string(in[0].shape));
    return {like_first({in[0].shape[1]})};
  }
  Types operator()(const Conv2d& op) const {
    require_operands(in, 2);
    require_rank(in[0], 4);
    require_rank(in[1], 4);
    const Shape& x = in[0].shape;
    const Shape& w = in[1].shape;
    require(x[1] == checked_mul(w[1], op.groups) && w[0] % op.groups == 0,
            "expected channels divided by groups, found shapes " + to_string(x) + " and " + to_string(w));
    require_same_dtype(in[0], in[1]);
    const Shape y = pooled(op.window, x);
    return {like_first({x[0], w[0], y[2], y[3]})};
  }
  Types operator()(const Conv2dBackwardData& op) const {
    require_operands(in, 2);
    require_same_dtype(in[0], in[1]);
    return {like_first(op.x_shape)};
  }
  Types operator()(const Conv2dBackwardWeights& op) const {
    require_operands(in, 2);
    require_same_dtype(in[0], in[1]);
    return {like_first(op.w_shape)};
  }
  Types operator()(const Relu&) const {
    require_operands(in, 1);
    return {in[0]};
  }
  Types operator()(const ReluBackward&) const {
    require_operands(in, 2);
    require_same_shape(in[0], in[1]);
    require_same_dtype(in[0], in[1]);
    return {in[0]};
  }
  Types operator()(const MaxPool2d& op) const {
    require_operands(in, 1);
    require_rank(in[0], 4);
    const Shape y = pooled(op.window, in[0].shape);
    const bool narrow = checked_mul(op.window.kernel[0], op.window.kernel[1]) <= 256;
    return {like_first(y), {y, narrow ? DType::kU8 : DType::kS32}};
  }
  Types operator()(const MaxPool2dBackward& op) const {
    require_operands(in, 2);
    require_same_shape(in[0], in[1]);
    return {like_first(op.x_shape)};
  }
  Types operator()(const AvgPool2d& op) const {
    require_operands(in, 1);
    require_rank(in[0], 4);
    return {like_first(pooled(op.window, in[0].shape))};
  }
  Types operator()(const AvgPool2dBackward& op) const {
    require_operands(in, 1);
    return {like_first(op.x_shape)};
  }
  Types operator()(const BatchNorm2d&) const {
    require_operands(in, 3);
    require_rank(in[0], 4);
    const TensorType channels = f32({in[0].shape[1]});
    require(in[1] == channels && in[2] == channels, "expected gamma and beta per channel");
    return {in[0], channels, channels};
  }
  Types operator()(const BatchNorm2dBackward& op) const {
    require_operands(in, 5);
    require_same_shape(in[0], in[1]);
    require_same_dtype(in[0], in[1]);
    Types out = {in[2], in[2]};
    if (op.data_gradient) out.push_back(in[1]);
    return out;
  }
  Types operator()(const RunningStatistics&) const {
    require_operands(in, 4);
    return {in[0], in[1]};
  }
  Types operator()(const Add&) const {
    require_operands(in, 2);
    require_same_shape(in[0], in[1]);
    require_same_dtype(in[0], in[1]);
    return {in[0]};
  }
  Types operator()(const Reshape& op) const {
    require_operands(in, 1);
    require(element_count(op.shape) == element_count(in[0].shape),
            "expected as many elements as " + to_string(in[0].shape) + ", found " + to_string(op.shape));
    return {{op.shape, in[0].dtype}};
  }
  Types operator()(const SoftmaxCrossEntropy&) const {
    require_operands(in, 2);
    require_rank(in[0], 2);
    require(in[1].shape == Shape{in[0].shape[0]}, "expected one target a row");
    return {f32({}), in[0]};
  }
  Types operator()(const SoftmaxCrossEntropyBackward&) const {
    require_operands(in, 2);
    return {in[0]};
  }
  Types operator()(const MeanSquare&) const {
    require_operands(in, 1);
    return {f32({})};
  }
  Types operator()(const MeanSquareBackward&) const {
    require_operands(in, 1);
    return {in[0]};
  }
  Types operator()(const Update& op) const {
    require_operands(in, 3 + static_cast<size_t>(state_count(op.optimizer)));
    Types out = {in[0]};
    for (size_t i = 3; i < in.size(); ++i) out.push_back(in[i]);
    for (const TensorType& type : out) require_same_shape(type, in[1]);
    return out;
  }
  Types operator()(const Convert& op) const {
    require_operands(in, 1);
    return {{in[0].shape, op.to}};
  }
};

}  // namespace

int64_t window_output(const Window& window, int d, int64_t input) {
  const int64_t reach = checked_mul(window.dilation[d], window.kernel[d] - 1);
  const int64_t span = checked_add(input, checked_mul(2, window.padding[d])) - reach - 1;
  return span < 0 ? 0 : span / window.stride[d] + 1;
}

std::string_view name_of(const OpKind& kind) {
  constexpr std::string_view kNames[] = {"matmul",
                                         "add_bias",
                                         "bias_gradient",
                                         "conv2d",
                                         "conv2d_backward_data",
                                         "conv2d_backward_weights",
                                         "relu",
                                         "relu_backward",
                                         "max_pool2d",
                                         "max_pool2d_backward",
                                         "avg_pool2d",
                                         "avg_pool2d_backward",
                                         "batch_norm2d",
                                         "batch_norm2d_backward",
                                         "running_statistics",
                                         "add",
                                         "reshape",
                                         "softmax_cross_entropy",
                                         "softmax_cross_entropy_backward",
                                         "mean_square",
                                         "mean_square_backward",
                                         "update",
                                         "convert"};
  static_assert(std::size(kNames) == std::variant_size_v<OpKind>);
  return kNames[kind.index()];
}

std::vector<TensorType> infer(const OpKind& kind, const std::vector<TensorType>& inputs) {
  return std::visit(Infer{inputs}, kind);
}

}  // namespace triphase
