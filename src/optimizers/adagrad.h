// SPDX-License-Identifier: Apache-2.0
// AdaGrad (Duchi et al., 2011): s += g²; w -= lr g / (√s + ε). 7 FLOP, 20 bytes a parameter (f32).
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <string_view>

#include "core/host_device.h"

namespace triphase {

struct AdaGrad {
  static constexpr std::string_view kName = "adagrad";
  static constexpr int kStates = 1;  // s
  static constexpr bool kDividesByGradient = true;
  double learning_rate = 0.01;
  double epsilon = 1e-10;

  std::array<double, 1> scalars(int64_t) const { return {learning_rate}; }

  template <class T>
  TRIPHASE_HOST_DEVICE void step(T& w, T g, T* state, const T* scalars) const {
    using std::sqrt;
    state[0] += g * g;
    w -= scalars[0] * (g / (sqrt(state[0]) + T(epsilon)));
  }
};

}  // namespace triphase
