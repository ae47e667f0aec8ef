// SPDX-License-Identifier: Apache-2.0
// y[n,k] = sum_c x[n,c] w[k,c] + b[k].        x: [N, C]  w: [K, C]  b: [K]  y: [N, K]
// Backward: dx = dy w, dw = dyᵀ x, db = Σ_n dy; all written with "=".   Nominal FLOP: 2NCK each.
#include <stdexcept>

#include "layers/kinds.h"

namespace triphase {

Lower read_linear(Attributes& attributes) {
  const int64_t out_features = attributes.integer("out_features", 1, kMaxExtent);
  const int64_t in_features = attributes.integer("in_features", 1, kMaxExtent, 0);
  const bool bias = attributes.boolean("bias", true);
  return [=](Builder& builder, std::span<const TensorId> inputs) -> Lowered {
    const TensorId x = inputs[0];
    require_rank(builder.shape(x), 2, "[N, C] (a flatten layer makes one)");
    const int64_t channels = builder.shape(x)[1];
    if (in_features != 0 && in_features != channels) {
      throw std::invalid_argument("expected an input of " + std::to_string(in_features) + " features, found shape " +
                                  to_string(builder.shape(x)));
    }
    const TensorId w = builder.parameter("weight", {out_features, channels}, weight_init(channels));
    TensorId y = builder.forward(MatMul{.transpose_b = true}, {x, w});
    const TensorId b = bias ? builder.parameter("bias", {out_features}, weight_init(channels)) : kNoTensor;
    if (bias) y = builder.forward(AddBias{}, {y, b});
    return {y, [=, &builder](TensorId dy) {
              if (bias) builder.gradient(Phase::kBackwardWeights, BiasGradient{}, {dy}, {b});
              builder.gradient(Phase::kBackwardWeights, MatMul{.transpose_a = true}, {dy, x}, {w});
              if (builder.needs_gradient(x)) builder.gradient(Phase::kBackwardData, MatMul{}, {dy, w}, {x});
            }};
  };
}

}  // namespace triphase
