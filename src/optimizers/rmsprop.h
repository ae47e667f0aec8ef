// SPDX-License-Identifier: Apache-2.0
// RMSProp as PyTorch's: s = α s + (1 − α) g²; w -= lr g / (√s + ε). 9 FLOP, 20 bytes a parameter (f32).
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <string_view>

#include "core/host_device.h"

namespace triphase {

struct RmsProp {
  static constexpr std::string_view kName = "rmsprop";
  static constexpr int kStates = 1;  // s
  static constexpr bool kDividesByGradient = true;
  double learning_rate = 0.01;
  double alpha = 0.99;
  double epsilon = 1e-8;

  std::array<double, 1> scalars(int64_t) const { return {learning_rate}; }

  template <class T>
  TRIPHASE_HOST_DEVICE void step(T& w, T g, T* state, const T* scalars) const {
    using std::sqrt;
    state[0] = T(alpha) * state[0] + T(1 - alpha) * g * g;
    w -= scalars[0] * (g / (sqrt(state[0]) + T(epsilon)));
  }
};

}  // namespace triphase
