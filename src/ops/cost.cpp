// SPDX-License-Identifier: Apache-2.0
#include "ops/cost.h"

#include <algorithm>

namespace triphase {
namespace {

using Types = std::vector<TensorType>;

struct Flop {
  int64_t nominal = 0;
  int64_t unpadded = 0;
  int64_t executed = 0;
};

// What a window does along one dimension, summed over its output positions.
struct Taps {
  int64_t inside = 0;           // pairs (output, tap) that fall on an input
  int64_t outputs_reached = 0;  // outputs with at least one such tap
  int64_t inputs_reached = 0;   // inputs read by at least one
  int64_t taps_reached = 0;     // taps that fall on an input for at least one output
};

// O(outputs x kernel) along one dimension.
Taps count_taps(const Window& window, int d, int64_t input, int64_t output) {
  Taps taps;
  std::vector<char> input_read(static_cast<size_t>(input));
  std::vector<char> tap_used(static_cast<size_t>(window.kernel[d]));
  for (int64_t o = 0; o < output; ++o) {
    const int64_t before = taps.inside;
    for (int64_t k = 0; k < window.kernel[d]; ++k) {
      const int64_t i = o * window.stride[d] - window.padding[d] + k * window.dilation[d];
      if (i < 0 || i >= input) continue;
      ++taps.inside;
      input_read[static_cast<size_t>(i)] = tap_used[static_cast<size_t>(k)] = 1;
    }
    taps.outputs_reached += taps.inside > before;
  }
  taps.inputs_reached = std::count(input_read.begin(), input_read.end(), 1);
  taps.taps_reached = std::count(tap_used.begin(), tap_used.end(), 1);
  return taps;
}

struct Plane {
  Taps height, width;

  int64_t inside() const { return checked_mul(height.inside, width.inside); }
};

Plane count_taps(const Window& window, const Shape& x, const Shape& y) {
  return {count_taps(window, 0, x[2], y[2]), count_taps(window, 1, x[3], y[3])};
}

int64_t elements(const TensorType& type) { return element_count(type.shape); }

Flop only_executed(int64_t executed) { return {0, 0, executed}; }

// A convolution's multiply-accumulates towards any of its three operands; `results` is how many elements of the one
// written receive a product, each of which saves an addition.
Flop convolution(const Conv2d& conv, const Shape& x, const Shape& w, const Shape& y, int64_t results) {
  const int64_t pairs = checked_mul(x[0], w[0], w[1]);  // batch x output channels x input channels of the group
  const int64_t padded = checked_mul(pairs, checked_mul(w[2], w[3], y[2], y[3]));
  const int64_t inside = checked_mul(pairs, count_taps(conv.window, x, y).inside());
  return {checked_mul(2, padded), checked_mul(2, inside), checked_mul(2, inside) - results};
}

struct FlopOf {
  const Types& in;
  const Types& out;

  Flop operator()(const MatMul& op) const {
    const int64_t k = in[0].shape[op.transpose_a ? 0 : 1];
    const int64_t nominal = checked_mul(2, elements(out[0]), k);
    return {nominal, nominal, nominal - elements(out[0])};
  }
  Flop operator()(const AddBias&) const { return only_executed(elements(out[0])); }
  Flop operator()(const BiasGradient&) const { return only_executed(elements(in[0]) - elements(out[0])); }
  Flop operator()(const Conv2d& op) const {
    const Shape& x = in[0].shape;
    const Shape& y = out[0].shape;
    const Plane taps = count_taps(op.window, x, y);
    return convolution(op, x, in[1].shape, y,
                       checked_mul(y[0], y[1], checked_mul(taps.height.outputs_reached, taps.width.outputs_reached)));
  }
  Flop operator()(const Conv2dBackwardData& op) const {
    const Shape& y = in[0].shape;
    const Shape& x = op.x_shape;
    const Plane taps = count_taps(op.conv.window, x, y);
    return convolution(op.conv, x, in[1].shape, y,
                       checked_mul(x[0], x[1], checked_mul(taps.height.inputs_reached, taps.width.inputs_reached)));
  }
  Flop operator()(const Conv2dBackwardWeights& op) const {
    const Shape& y = in[0].shape;
    const Shape& x = in[1].shape;
    const Shape& w = op.w_shape;
    const Plane taps = count_taps(op.conv.window, x, y);
    return convolution(op.conv, x, w, y,
                       checked_mul(w[0], w[1], checked_mul(taps.height.taps_reached, taps.width.taps_reached)));
  }
  Flop operator()(const Relu&) const { return only_executed(elements(out[0])); }
  Flop operator()(const ReluBackward&) const { return only_executed(elements(out[0])); }
  Flop operator()(const MaxPool2d& op) const {
    const int64_t planes = checked_mul(out[0].shape[0], out[0].shape[1]);
    const int64_t taps = checked_mul(planes, count_taps(op.window, in[0].shape, out[0].shape).inside());
    return only_executed(taps - elements(out[0]));
  }
  Flop operator()(const MaxPool2dBackward&) const { return only_executed(elements(in[0])); }
  // Additions of all taps but the first, and one division.
  Flop operator()(const AvgPool2d& op) const {
    const int64_t planes = checked_mul(out[0].shape[0], out[0].shape[1]);
    return only_executed(checked_mul(planes, count_taps(op.window, in[0].shape, out[0].shape).inside()));
  }
  // One division, and an addition for each tap.
  Flop operator()(const AvgPool2dBackward& op) const {
    const Shape& y = in[0].shape;
    const int64_t taps = checked_mul(y[0], y[1], count_taps(op.pool.window, op.x_shape, y).inside());
    return only_executed(checked_add(taps, elements(in[0])));
  }
  // Per channel of m values: mean m, variance 3m, 1/sqrt(variance + epsilon) 3, its product with gamma 1, y 3m.
  Flop operator()(const BatchNorm2d&) const {
    return only_executed(checked_add(checked_mul(7, elements(in[0])), checked_mul(4, elements(in[1]))));
  }
  // Per channel of m values: 1/sqrt(variance + epsilon) 3, dbeta m - 1, dgamma 3m, and for dx 4 factors and 5m.
  Flop operator()(const BatchNorm2dBackward& op) const {
    const int64_t channels = elements(in[2]);
    const int64_t statistics = checked_add(checked_mul(4, elements(in[0])), checked_mul(2, channels));
    if (!op.data_gradient) return only_executed(statistics);
    return only_executed(
        checked_add(statistics, checked_add(checked_mul(5, elements(in[0])), checked_mul(4, channels))));
  }
  Flop operator()(const RunningStatistics&) const { return only_executed(checked_mul(6, elements(out[0]))); }
  Flop operator()(const Add&) const { return only_executed(elements(out[0])); }
  Flop operator()(const Reshape&) const { return {}; }
  // Per row of K: maximum K - 1, differences K, exponentials K, sum K - 1, quotients K, logarithm and difference 2;
  // mean 1.
  Flop operator()(const SoftmaxCrossEntropy&) const {
    return only_executed(checked_add(checked_mul(5, elements(in[0])), in[0].shape[0]));
  }
  Flop operator()(const SoftmaxCrossEntropyBackward&) const {
    return only_executed(checked_add(elements(in[0]), in[0].shape[0]));
  }
  Flop operator()(const MeanSquare&) const { return only_executed(checked_mul(2, elements(in[0]))); }
  Flop operator()(const MeanSquareBackward&) const { return only_executed(elements(in[0])); }
  Flop operator()(const Update& op) const {
    const int64_t flop = checked_mul(flop_per_parameter(op.optimizer), elements(in[0]));
    return {flop, flop, op.loss_scale == 1 ? flop : checked_add(flop, elements(in[0]))};
  }
  Flop operator()(const Convert&) const { return {}; }
};

int64_t traffic(const OpKind& kind, const Types& inputs, const Types& outputs) {
  if (std::holds_alternative<Reshape>(kind)) return 0;
  constexpr size_t kUpdateScalars = 2;
  int64_t bytes = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (std::holds_alternative<Update>(kind) && i == kUpdateScalars) continue;
    bytes = checked_add(bytes, checked_mul(elements(inputs[i]), size_in_bytes(inputs[i].dtype)));
  }
  for (const TensorType& type : outputs) {
    bytes = checked_add(bytes, checked_mul(elements(type), size_in_bytes(type.dtype)));
  }
  return bytes;
}

}  // namespace

Cost& Cost::operator+=(const Cost& other) {
  flop = checked_add(flop, other.flop);
  flop_unpadded = checked_add(flop_unpadded, other.flop_unpadded);
  flop_executed = checked_add(flop_executed, other.flop_executed);
  traffic_bytes = checked_add(traffic_bytes, other.traffic_bytes);
  return *this;
}

Cost cost(const OpKind& kind, const Types& inputs, const Types& outputs) {
  const Flop flop = std::visit(FlopOf{inputs, outputs}, kind);
  return {flop.nominal, flop.unpadded, flop.executed, traffic(kind, inputs, outputs)};
}

}  // namespace triphase
