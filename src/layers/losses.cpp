// SPDX-License-Identifier: Apache-2.0
// Losses: scalars of the network's output whose backward starts the gradients. Nominal FLOP: none.
// softmax_cross_entropy: mean over rows of log Σ_k exp x[n,k] - x[n, target[n]].   x: [N, K]  target: [N]
// mean_square: mean of x². x: any shape.
#include "layers/kinds.h"

namespace triphase {

Lower read_softmax_cross_entropy(Attributes&) {
  return [](Builder& builder, std::span<const TensorId> inputs) -> Lowered {
    const TensorId x = inputs[0];
    require_rank(builder.shape(x), 2, "[N, K]");
    const TensorId target = builder.target();
    const auto outputs = builder.forward(SoftmaxCrossEntropy{}, {x, target}, {"", "probabilities"});
    const TensorId probabilities = outputs[1];
    return {outputs[0], [=, &builder](TensorId) {
              builder.gradient(Phase::kBackwardData, SoftmaxCrossEntropyBackward{}, {probabilities, target}, {x});
            }};
  };
}

Lower read_mean_square(Attributes&) {
  return [](Builder& builder, std::span<const TensorId> inputs) -> Lowered {
    const TensorId x = inputs[0];
    const TensorId loss = builder.forward(MeanSquare{}, {x});
    return {loss, [=, &builder](TensorId) { builder.gradient(Phase::kBackwardData, MeanSquareBackward{}, {x}, {x}); }};
  };
}

}  // namespace triphase
