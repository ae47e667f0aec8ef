// SPDX-License-Identifier: Apache-2.0
// Stochastic gradient descent: w -= lr g. 2 FLOP, 12 bytes a parameter (f32).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "core/host_device.h"

namespace triphase {

struct Sgd {
  static constexpr std::string_view kName = "sgd";
  static constexpr int kStates = 0;
  static constexpr bool kDividesByGradient = false;
  double learning_rate = 0.01;

  // What changes from step to step and is the same for every parameter; step counts from 1.
  std::array<double, 1> scalars(int64_t) const { return {learning_rate}; }

  template <class T>
  TRIPHASE_HOST_DEVICE void step(T& w, T g, T*, const T* scalars) const {
    w -= scalars[0] * g;
  }
};

}  // namespace triphase
