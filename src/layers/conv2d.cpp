// SPDX-License-Identifier: Apache-2.0
// y[n,k,oh,ow] = sum_{c,i,j} x[n, c, oh s - p + i d, ow s - p + j d] w[k,c,i,j] + b[k], within groups.
// x: [N, C, H, W]  w: [K, C/groups, KH, KW]  b: [K]  y: [N, K, OH, OW]
// Backward: the same products summed towards x and towards w; db = Σ dy. Nominal FLOP: 2 N K C/groups KH KW OH OW each.
#include <stdexcept>

#include "layers/kinds.h"

namespace triphase {

Lower read_conv2d(Attributes& attributes) {
  const int64_t out_channels = attributes.integer("out_channels", 1, kMaxExtent);
  const int64_t in_channels = attributes.integer("in_channels", 1, kMaxExtent, 0);
  const int64_t groups = attributes.integer("groups", 1, kMaxExtent, 1);
  const bool bias = attributes.boolean("bias", true);
  const Conv2d conv{read_window(attributes, /*dilation=*/true, /*stride_is_kernel=*/false), groups};
  return [=](Builder& builder, std::span<const TensorId> inputs) -> Lowered {
    const TensorId x = inputs[0];
    const Shape x_shape = builder.shape(x);
    require_rank(x_shape, 4, "[N, C, H, W]");
    const int64_t channels = x_shape[1];
    if ((in_channels != 0 && in_channels != channels) || channels % groups != 0 || out_channels % groups != 0) {
      throw std::invalid_argument("expected channels divided by " + std::to_string(groups) + " groups" +
                                  (in_channels ? " and " + std::to_string(in_channels) + " of them in" : "") +
                                  ", found input " + to_string(x_shape) + " and out_channels " +
                                  std::to_string(out_channels));
    }
    const auto [kernel_height, kernel_width] = conv.window.kernel;
    const Shape w_shape = {out_channels, channels / groups, kernel_height, kernel_width};
    const Init init = weight_init(checked_mul(w_shape[1], kernel_height, kernel_width));
    const TensorId w = builder.parameter("weight", w_shape, init);
    TensorId y = builder.forward(conv, {x, w});
    const TensorId b = bias ? builder.parameter("bias", {out_channels}, init) : kNoTensor;
    if (bias) y = builder.forward(AddBias{}, {y, b});
    return {y, [=, &builder](TensorId dy) {
              if (bias) builder.gradient(Phase::kBackwardWeights, BiasGradient{}, {dy}, {b});
              builder.gradient(Phase::kBackwardWeights, Conv2dBackwardWeights{conv, w_shape}, {dy, x}, {w});
              if (builder.needs_gradient(x)) {
                builder.gradient(Phase::kBackwardData, Conv2dBackwardData{conv, x_shape}, {dy, w}, {x});
              }
            }};
  };
}

}  // namespace triphase
