// SPDX-License-Identifier: Apache-2.0
// Heavy-ball momentum as PyTorch's SGD(momentum): v = mu v + g; w -= lr v. 4 FLOP, 20 bytes a parameter (f32).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "core/host_device.h"

namespace triphase {

struct Momentum {
  static constexpr std::string_view kName = "momentum";
  static constexpr int kStates = 1;  // v
  static constexpr bool kDividesByGradient = false;
  double learning_rate = 0.01;
  double momentum = 0.9;

  std::array<double, 1> scalars(int64_t) const { return {learning_rate}; }

  template <class T>
  TRIPHASE_HOST_DEVICE void step(T& w, T g, T* state, const T* scalars) const {
    state[0] = T(momentum) * state[0] + g;
    w -= scalars[0] * state[0];
  }
};

}  // namespace triphase
