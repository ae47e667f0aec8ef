// SPDX-License-Identifier: Apache-2.0
// Pooling over windows. x: [N, C, H, W]  y: [N, C, OH, OW]
// max: y = the largest tap; backward scatters dy to the tap kept. average: y = Σ taps / number; backward scatters dy /
// number. Global average: the window is the whole plane, y: [N, C, 1, 1]. Nominal FLOP: none.
#include <stdexcept>

#include "layers/kinds.h"

namespace triphase {
namespace {

// PyTorch's rule: no window may lie in the padding alone.
void require_half_padding(const Window& window, const Attributes& attributes) {
  for (int d = 0; d < 2; ++d) {
    if (window.padding[d] * 2 <= window.kernel[d]) continue;
    throw InputError(attributes.path("padding"), "at most half of the kernel", std::to_string(window.padding[d]));
  }
}

Lowered lower_avg_pool(Builder& builder, TensorId x, const AvgPool2d& pool) {
  const Shape x_shape = builder.shape(x);
  const TensorId y = builder.forward(pool, {x});
  return {y, [=, &builder](TensorId dy) {
            builder.gradient(Phase::kBackwardData, AvgPool2dBackward{pool, x_shape}, {dy}, {x});
          }};
}

}  // namespace

Lower read_max_pool2d(Attributes& attributes) {
  const Window window = read_window(attributes, /*dilation=*/false, /*stride_is_kernel=*/true);
  require_half_padding(window, attributes);
  return [=](Builder& builder, std::span<const TensorId> inputs) -> Lowered {
    const TensorId x = inputs[0];
    const Shape x_shape = builder.shape(x);
    require_rank(x_shape, 4, "[N, C, H, W]");
    const std::vector<TensorId> outputs = builder.forward(MaxPool2d{window}, {x}, {"", "tap"});
    const TensorId tap = outputs[1];
    return {outputs[0], [=, &builder](TensorId dy) {
              builder.gradient(Phase::kBackwardData, MaxPool2dBackward{window, x_shape}, {dy, tap}, {x});
            }};
  };
}

Lower read_avg_pool2d(Attributes& attributes) {
  AvgPool2d pool{read_window(attributes, /*dilation=*/false, /*stride_is_kernel=*/true)};
  require_half_padding(pool.window, attributes);
  pool.count_include_pad = attributes.boolean("count_include_pad", true);
  return [=](Builder& builder, std::span<const TensorId> inputs) -> Lowered {
    require_rank(builder.shape(inputs[0]), 4, "[N, C, H, W]");
    return lower_avg_pool(builder, inputs[0], pool);
  };
}

Lower read_global_avg_pool2d(Attributes&) {
  return [](Builder& builder, std::span<const TensorId> inputs) -> Lowered {
    const Shape& x = builder.shape(inputs[0]);
    require_rank(x, 4, "[N, C, H, W]");
    return lower_avg_pool(builder, inputs[0], {{.kernel = {x[2], x[3]}, .stride = {x[2], x[3]}}});
  };
}

}  // namespace triphase
