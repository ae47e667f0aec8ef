// SPDX-License-Identifier: Apache-2.0
// y = max(x, 0). Backward: dx = dy where y > 0, else 0; it reads the output, so that ReLU may fuse and run in place.
// x, y: any shape. Nominal FLOP: none; executed: one comparison an element each way.
#include "layers/kinds.h"

namespace triphase {

Lower read_relu(Attributes&) {
  return [](Builder& builder, std::span<const TensorId> inputs) -> Lowered {
    const TensorId x = inputs[0];
    const TensorId y = builder.forward(Relu{}, {x});
    return {y, [=, &builder](TensorId dy) { builder.gradient(Phase::kBackwardData, ReluBackward{}, {dy, y}, {x}); }};
  };
}

}  // namespace triphase
