// SPDX-License-Identifier: Apache-2.0
// Per channel over N, H, W in training mode: y = (x - mean) / √(variance + ε) γ + β.   x, y: [N, C, H, W]  γ, β: [C]
// Backward: dβ = Σ dy, dγ = Σ dy x̂, dx = γ / √(variance + ε) (dy - dβ/m - x̂ dγ/m), m = N H W, x̂ the normalised input.
// Running statistics follow with momentum, as PyTorch's, once a step. Nominal FLOP: none.
#include <stdexcept>

#include "layers/kinds.h"

namespace triphase {

Lower read_batch_norm2d(Attributes& attributes) {
  const double epsilon = attributes.positive_fraction("eps", 1e-5);
  const double momentum = attributes.positive_fraction("momentum", 0.1);
  return [=](Builder& builder, std::span<const TensorId> inputs) -> Lowered {
    const TensorId x = inputs[0];
    const Shape& x_shape = builder.shape(x);
    require_rank(x_shape, 4, "[N, C, H, W]");
    const Shape channels = {x_shape[1]};
    const int64_t count = checked_mul(x_shape[0], x_shape[2], x_shape[3]);
    if (count < 2) throw std::invalid_argument("expected more than one value a channel, found " + to_string(x_shape));
    const TensorId gamma = builder.parameter("weight", channels, {Init::Kind::kConstant, 1});
    const TensorId beta = builder.parameter("bias", channels, {Init::Kind::kConstant, 0});
    const TensorId running_mean = builder.statistic("running_mean", channels, 0);
    const TensorId running_variance = builder.statistic("running_var", channels, 1);
    const std::vector<TensorId> outputs =
        builder.forward(BatchNorm2d{epsilon}, {x, gamma, beta}, {"", "mean", "variance"});
    const TensorId mean = outputs[1];
    const TensorId variance = outputs[2];
    builder.replace_statistics(RunningStatistics{momentum, count}, {running_mean, running_variance, mean, variance},
                               {running_mean, running_variance});
    const bool data = builder.needs_gradient(x);
    return {outputs[0], [=, &builder](TensorId dy) {
              std::vector<TensorId> of = {gamma, beta};
              if (data) of.push_back(x);
              builder.gradient(data ? Phase::kBackwardData : Phase::kBackwardWeights,
                               BatchNorm2dBackward{epsilon, data}, {dy, x, gamma, mean, variance}, of);
            }};
  };
}

}  // namespace triphase
