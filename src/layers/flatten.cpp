// SPDX-License-Identifier: Apache-2.0
// y = x with all dimensions but the batch made one.   x: [N, ...]  y: [N, the product of the rest]. Moves nothing.
#include "layers/kinds.h"

namespace triphase {

Lower read_flatten(Attributes&) {
  return [](Builder& builder, std::span<const TensorId> inputs) -> Lowered {
    const TensorId x = inputs[0];
    const Shape x_shape = builder.shape(x);
    const TensorId y = builder.forward(Reshape{{x_shape[0], element_count(x_shape) / x_shape[0]}}, {x});
    return {y, [=, &builder](TensorId dy) { builder.gradient(Phase::kBackwardData, Reshape{x_shape}, {dy}, {x}); }};
  };
}

}  // namespace triphase
