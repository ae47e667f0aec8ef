// SPDX-License-Identifier: Apache-2.0
// Adam (Kingma and Ba, 2015) with the bias corrections folded as PyTorch folds them: m = β₁ m + (1 − β₁) g;
// v = β₂ v + (1 − β₂) g²; w -= lr / (1 − β₁ᵗ) · m / (√v · 1 / √(1 − β₂ᵗ) + ε). 13 FLOP, 28 bytes a parameter (f32); one
// of them is a division, which takes several times a multiplication's time: PyTorch has another, by √(1 − β₂ᵗ).
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <string_view>

#include "core/host_device.h"

namespace triphase {

struct Adam {
  static constexpr std::string_view kName = "adam";
  static constexpr int kStates = 2;  // m, v
  static constexpr bool kDividesByGradient = true;
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;

  // The corrected learning rate and the correction of √v.
  std::array<double, 2> scalars(int64_t step) const {
    const double t = static_cast<double>(step);
    return {learning_rate / (1 - std::pow(beta1, t)), 1 / std::sqrt(1 - std::pow(beta2, t))};
  }

  template <class T>
  TRIPHASE_HOST_DEVICE void step(T& w, T g, T* state, const T* scalars) const {
    using std::sqrt;
    state[0] = T(beta1) * state[0] + T(1 - beta1) * g;
    state[1] = T(beta2) * state[1] + T(1 - beta2) * g * g;
    w -= scalars[0] * (state[0] / (sqrt(state[1]) * scalars[1] + T(epsilon)));
  }
};

}  // namespace triphase
