// SPDX-License-Identifier: Apache-2.0
// The walk over the program; what is computed element by element, and losses.
#include "backends/cuda/compile.h"

namespace triphase::cuda {

void CudaPlan::compile(int op) {
  using Direction = Convolution::Direction;
  const std::vector<TensorId>& in = op_at(op).inputs;
  const std::vector<TensorId>& out = op_at(op).outputs;
  std::visit(Overloaded{
                 [&](const MatMul& kind) { compile_product(op, kind); },
                 [&](const AddBias&) { compile_add_bias(op); },
                 [&](const BiasGradient&) { compile_bias_gradient(op); },
                 [&](const Conv2d& kind) { compile_convolution(op, kind); },
                 [&](const Conv2dBackwardData& kind) {
                   compile_convolution(op, Direction::kBackwardData, kind.conv, out[0], in[1], in[0]);
                 },
                 [&](const Conv2dBackwardWeights& kind) {
                   compile_convolution(op, Direction::kBackwardWeights, kind.conv, in[1], out[0], in[0]);
                 },
                 [&](const Relu&) {
                   begin({op});
                   put_over(out[0], in[0], op);
                   end_elementwise(op, out[0], [=, this]<class T>() {
                     return kernels::Relu<T>{data<T>(in[0]), data<T>(out[0])};
                   });
                 },
                 [&](const ReluBackward&) {
                   begin({op});
                   put_over(out[0], in[0], op);
                   end_elementwise(op, out[0], [=, this]<class T>() {
                     return kernels::ReluBackward<T>{data<T>(in[0]), data<T>(in[1]), data<T>(out[0])};
                   });
                 },
                 [&](const Add&) {
                   begin({op});
                   put_over(out[0], in[0], op);
                   end_elementwise(op, out[0], [=, this]<class T>() {
                     return kernels::Add<T>{data<T>(in[0]), data<T>(in[1]), data<T>(out[0])};
                   });
                 },
                 [&](const MaxPool2d& kind) { compile_max_pool(op, kind.window); },
                 [&](const MaxPool2dBackward& kind) { compile_max_pool_backward(op, kind); },
                 [&](const AvgPool2d& kind) { compile_average_pool(op, kind); },
                 [&](const AvgPool2dBackward& kind) { compile_average_pool_backward(op, kind); },
                 [&](const BatchNorm2d& kind) { compile_batch_norm(op, kind); },
                 [&](const BatchNorm2dBackward& kind) { compile_batch_norm_backward(op, kind); },
                 [&](const RunningStatistics& kind) { compile_running_statistics(op, kind); },
                 [&](const Reshape&) { compile_reshape(op); },
                 [&](const SoftmaxCrossEntropy&) { compile_softmax_cross_entropy(op); },
                 [&](const SoftmaxCrossEntropyBackward& kind) {
                   begin({op});
                   put_over(out[0], in[0], op);
                   const int64_t rows = shape(out[0])[0];
                   const auto scale = static_cast<float>(kind.loss_scale / static_cast<double>(rows));
                   end_elementwise(op, out[0], [=, this]<class T>() {
                     return kernels::SoftmaxCrossEntropyBackward<T>{data<T>(in[0]), data<int32_t>(in[1]),
                                                                    data<T>(out[0]), count(out[0]) / rows, scale};
                   });
                 },
                 [&](const MeanSquare&) { compile_mean_square(op); },
                 [&](const MeanSquareBackward& kind) {
                   begin({op});
                   put_over(out[0], in[0], op);
                   const auto scale = static_cast<float>(2 * kind.loss_scale / static_cast<double>(count(in[0])));
                   end_elementwise(op, out[0], [=, this]<class T>() {
                     return kernels::Scale<T>{data<T>(in[0]), data<T>(out[0]), scale};
                   });
                 },
                 [&](const Update& kind) { compile_update(op, kind); },
                 [&](const Convert&) { compile_convert(op); },
             },
             op_at(op).kind);
}

void CudaPlan::compile_add_bias(int op) {
  const TensorId x = op_at(op).inputs[0];
  const TensorId bias = op_at(op).inputs[1];
  TensorId y = op_at(op).outputs[0];
  std::vector<int> ops = {op};
  const int reader = only_reader(y, op_at(op).phase);
  const bool relu = reader >= 0 && std::holds_alternative<Relu>(op_at(reader).kind);
  if (relu) {
    ops.push_back(reader);
    y = op_at(reader).outputs[0];
  }
  begin(std::move(ops));
  put_over(y, x, op);
  for (const TensorId id : {x, bias, y}) touch(id);
  end(own_kernel(relu ? "add_bias+relu" : "add_bias"), [=, this] { launch_add_bias(x, bias, y, relu); });
}

void CudaPlan::launch_add_bias(TensorId x, TensorId bias, TensorId y, bool relu) {
  with_float_type(dtype(y), [&]<class T>() {
    device_->launch(kernels::AddBias<T>{data<T>(x), data<T>(bias), data<T>(y), channels(y), inner(y), relu}, count(y));
  });
}

// Elements change their order only between an image with its channels last and what is none.
void CudaPlan::compile_reshape(int op) {
  const TensorId x = op_at(op).inputs[0];
  const TensorId y = op_at(op).outputs[0];
  const bool from_image = lies_channels_last(x);
  const Shape& image = shape(from_image ? x : y);
  begin({op});
  if (from_image == lies_channels_last(y) || image[2] * image[3] == 1) {
    put(y, x);
    end("view", [] {});
    return;
  }
  put(y);
  int64_t channels = image[1];
  int64_t inner = image[2] * image[3];
  if (!from_image) std::swap(channels, inner);
  end_elementwise(op, y, [=, this]<class T>() {
    return kernels::Transpose<T>{data<T>(x), data<T>(y), channels, inner};
  });
}

void CudaPlan::compile_softmax_cross_entropy(int op) {
  const TensorId x = op_at(op).inputs[0];
  const TensorId target = op_at(op).inputs[1];
  const TensorId loss = op_at(op).outputs[0];
  const TensorId probabilities = op_at(op).outputs[1];
  begin({op});
  put(loss);
  put(probabilities);
  for (const TensorId id : {x, target, loss, probabilities}) touch(id);
  const int64_t rows = shape(x)[0];
  const int64_t classes = count(x) / rows;
  if (kernels::SmallSoftmaxCrossEntropy<float>::takes(rows, classes)) {
    return end(own(op_at(op).kind), [=, this] {
      with_float_type(dtype(x), [&]<class T>() {
        device_->launch(kernels::SmallSoftmaxCrossEntropy<T>(data<T>(x), data<int32_t>(target), data<T>(probabilities),
                                                             data(loss), rows, classes));
      });
    });
  }
  const auto space = scratch(rows * static_cast<int64_t>(sizeof(kernels::Exponentials)));
  end(own(op_at(op).kind), [=, this] {
    auto* exponentials = reinterpret_cast<kernels::Exponentials*>(space());
    with_float_type(dtype(x), [&]<class T>() {
      device_->launch(kernels::SumOfExponentials<T>{data<T>(x), exponentials, classes}, rows, classes);
      device_->launch(kernels::Probabilities<T>{data<T>(x), exponentials, data<T>(probabilities), classes}, count(x));
      device_->launch(
          kernels::CrossEntropy<T>{data<T>(x), data<int32_t>(target), exponentials, data(loss), classes, rows}, 1,
          rows);
    });
  });
}

void CudaPlan::compile_mean_square(int op) {
  const TensorId x = op_at(op).inputs[0];
  const TensorId loss = op_at(op).outputs[0];
  begin({op});
  put(loss);
  touch(x);
  touch(loss);
  end(own(op_at(op).kind), [=, this] {
    with_float_type(dtype(x), [&]<class T>() {
      device_->launch(kernels::MeanSquare<T>{data<T>(x), data(loss), count(x)}, 1, count(x));
    });
  });
}

}  // namespace triphase::cuda
