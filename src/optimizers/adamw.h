// SPDX-License-Identifier: Apache-2.0
// AdamW (Loshchilov and Hutter, 2019): Adam's step and a decay of the weight beside it, w -= lr λ w. 15 FLOP, 28 bytes
// a parameter (f32).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "core/host_device.h"
#include "optimizers/adam.h"

namespace triphase {

struct AdamW {
  static constexpr std::string_view kName = "adamw";
  static constexpr int kStates = 2;  // m, v
  static constexpr bool kDividesByGradient = true;
  double learning_rate = 1e-3;
  double weight_decay = 0.01;

  // Adam's two, and lr λ.
  std::array<double, 3> scalars(int64_t step) const {
    const auto [rate, correction] = adam().scalars(step);
    return {rate, correction, learning_rate * weight_decay};
  }

  template <class T>
  TRIPHASE_HOST_DEVICE void step(T& w, T g, T* state, const T* scalars) const {
    w -= scalars[2] * w;
    adam().step(w, g, state, scalars);
  }

 private:
  TRIPHASE_HOST_DEVICE constexpr Adam adam() const { return {.learning_rate = learning_rate}; }
};

}  // namespace triphase
