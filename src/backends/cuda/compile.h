// SPDX-License-Identifier: Apache-2.0
// What the files share that say what each kind of op becomes.
#pragma once

#include <string>
#include <utility>

#include "backends/cuda/plan.h"
#include "core/elements.h"

namespace triphase::cuda {

inline Implementation own(const OpKind& kind) { return own_kernel(std::string(name_of(kind))); }

template <class F>
void CudaPlan::end_elementwise(int op, TensorId over, F make) {
  end_elementwise(op, over, count(over), std::move(make));
}

template <class F>
void CudaPlan::end_elementwise(int op, TensorId over, int64_t elements, F make) {
  for (const TensorId id : op_at(op).inputs) touch(id);
  for (const TensorId id : op_at(op).outputs) touch(id);
  end(own(op_at(op).kind), [this, make = std::move(make), elements, dtype = dtype(over)] {
    with_float_type(dtype, [&]<class T>() { device_->launch(make.template operator()<T>(), elements); });
  });
}

}  // namespace triphase::cuda
