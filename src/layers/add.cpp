// SPDX-License-Identifier: Apache-2.0
// y = a + b, the joint of a residual connection.   a, b, y: one shape. Backward: da = db = dy, which costs nothing by
// itself; where another gradient of a or b exists, the builder adds them. Nominal FLOP: none.
#include "layers/kinds.h"

namespace triphase {

Lower read_add(Attributes&) {
  return [](Builder& builder, std::span<const TensorId> inputs) -> Lowered {
    const TensorId a = inputs[0];
    const TensorId b = inputs[1];
    const TensorId y = builder.forward(Add{}, {a, b});
    return {y, [=, &builder](TensorId dy) {
              for (const TensorId id : {a, b}) {
                if (builder.needs_gradient(id)) builder.pass_gradient(dy, id);
              }
            }};
  };
}

}  // namespace triphase
