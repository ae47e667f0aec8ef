// SPDX-License-Identifier: Apache-2.0
// The closed set of primitive operations that a training step is made of. An op holds attributes only; its operands are
// tensors of a StepProgram. Gradients are written with "=". An op knows no layer and no backend.
//
// Here stand what each op computes and the order of its operands; infer() gives the outputs' types, cost() its FLOP.
// Whatever the types that tensors are kept in, ops compute in f32 and round what they write.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <variant>
#include <vector>

#include "core/dtype.h"
#include "core/shape.h"
#include "optimizers/optimizers.h"

namespace triphase {

struct TensorType {
  Shape shape;
  DType dtype = DType::kF32;

  bool operator==(const TensorType&) const = default;
};

// A sliding window over height and width, in PyTorch's terms; padding on both sides.
struct Window {
  std::array<int64_t, 2> kernel{1, 1};
  std::array<int64_t, 2> stride{1, 1};
  std::array<int64_t, 2> padding{0, 0};
  std::array<int64_t, 2> dilation{1, 1};

  bool operator==(const Window&) const = default;
};

// out = floor((in + 2 padding - dilation (kernel - 1) - 1) / stride) + 1 along dimension d; 0 where it does not fit.
// Throws SizeOverflow.
int64_t window_output(const Window& window, int d, int64_t input);

// y[m,n] = sum_k a[m,k] b[k,n].   (a, b) -> y.  a: [M, K], or [K, M] transposed; b: [K, N], or [N, K] transposed.
struct MatMul {
  bool transpose_a = false;
  bool transpose_b = false;
};

// y = x + b[c], c along dimension 1.   (x, b) -> y.  x, y: [N, C, ...]  b: [C]
struct AddBias {};

// db[c] = sum of dy over all but dimension 1.   (dy) -> db.  dy: [N, C, ...]  db: [C]
struct BiasGradient {};

// y[n,k,oh,ow] = sum_{c,i,j} x[n, c, oh s - p + i d, ow s - p + j d] w[k,c,i,j], c within k's group; taps outside x are
// 0. (x, w) -> y.  x: [N, C, H, W]  w: [K, C/groups, KH, KW]  y: [N, K, OH, OW]
struct Conv2d {
  Window window;
  int64_t groups = 1;
};

// The same sum towards x.   (dy, w) -> dx.
struct Conv2dBackwardData {
  Conv2d conv;
  Shape x_shape;
};

// The same sum towards w.   (dy, x) -> dw.
struct Conv2dBackwardWeights {
  Conv2d conv;
  Shape w_shape;
};

// y = max(x, 0).   (x) -> y
struct Relu {};

// dx = dy where y > 0, else 0; reads the output, so that ReLU may run in place.   (dy, y) -> dx
struct ReluBackward {};

// y = the largest of the window's taps within x; tap = its position in the window, row-major, the first of equals.
// (x) -> y, tap.  x: [N, C, H, W]  y, tap: [N, C, OH, OW]
struct MaxPool2d {
  Window window;
};

// dx = the scatter of dy to the taps, zero elsewhere.   (dy, tap) -> dx
struct MaxPool2dBackward {
  Window window;
  Shape x_shape;
};

// y = the sum of the window's taps within x over their number (the kernel's area if padding counts).   (x) -> y
struct AvgPool2d {
  Window window;
  bool count_include_pad = true;
};

// dx = the scatter of dy / number over the window.   (dy) -> dx
struct AvgPool2dBackward {
  AvgPool2d pool;
  Shape x_shape;
};

// Training-mode batch normalisation per channel over N, H, W: y = (x - mean) / sqrt(variance + epsilon) gamma + beta,
// with the biased variance.   (x, gamma, beta) -> y, mean, variance.
struct BatchNorm2d {
  double epsilon = 1e-5;
};

// (dy, x, gamma, mean, variance) -> dgamma, dbeta, and dx unless the input needs none.
struct BatchNorm2dBackward {
  double epsilon = 1e-5;
  bool data_gradient = true;
};

// running = (1 - momentum) running + momentum batch, with the unbiased variance of `count` values, as PyTorch.
// (running_mean, running_variance, mean, variance) -> new running_mean, new running_variance
struct RunningStatistics {
  double momentum = 0.1;
  int64_t count = 1;
};

// y = a + b.   (a, b) -> y
struct Add {};

// The same elements under another shape; moves nothing.   (x) -> y
struct Reshape {
  Shape shape;
};

// loss = mean_n(log sum_k exp x[n,k] - x[n, target[n]]), probabilities = softmax(x).
// (x, target) -> loss, probabilities.  x, probabilities: [N, K]  target: [N], s32  loss: []
struct SoftmaxCrossEntropy {};

// dx = loss_scale (probabilities - onehot(target)) / N.   (probabilities, target) -> dx
struct SoftmaxCrossEntropyBackward {
  double loss_scale = 1;
};

// loss = mean(x²).   (x) -> loss
struct MeanSquare {};

// dx = loss_scale 2 x / count.   (x) -> dx
struct MeanSquareBackward {
  double loss_scale = 1;
};

// One optimizer step of one parameter with the gradient dw / loss_scale.
// (w, dw, scalars, state...) -> new w, new state...
struct Update {
  Optimizer optimizer;
  double loss_scale = 1;
};

// y = x, rounded to another type.   (x) -> y
struct Convert {
  DType to = DType::kF32;
};

using OpKind = std::variant<MatMul, AddBias, BiasGradient, Conv2d, Conv2dBackwardData, Conv2dBackwardWeights, Relu,
                            ReluBackward, MaxPool2d, MaxPool2dBackward, AvgPool2d, AvgPool2dBackward, BatchNorm2d,
                            BatchNorm2dBackward, RunningStatistics, Add, Reshape, SoftmaxCrossEntropy,
                            SoftmaxCrossEntropyBackward, MeanSquare, MeanSquareBackward, Update, Convert>;

// "matmul", "conv2d_backward_data" ...
std::string_view name_of(const OpKind& kind);

// The types of an op's outputs from those of its inputs. Throws std::invalid_argument where they do not fit,
// SizeOverflow where they are too large.
std::vector<TensorType> infer(const OpKind& kind, const std::vector<TensorType>& inputs);

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;

}  // namespace triphase
