// SPDX-License-Identifier: Apache-2.0
// The phases of a training step. Every op has exactly one.
#pragma once

#include <array>
#include <string_view>

namespace triphase {

enum class Phase { kForward, kBackwardData, kBackwardWeights, kUpdate };

inline constexpr std::array kAllPhases = {Phase::kForward, Phase::kBackwardData, Phase::kBackwardWeights,
                                          Phase::kUpdate};

constexpr std::string_view to_string(Phase phase) {
  switch (phase) {
    case Phase::kForward:
      return "forward";
    case Phase::kBackwardData:
      return "backward_data";
    case Phase::kBackwardWeights:
      return "backward_weights";
    case Phase::kUpdate:
      return "update";
  }
  return "?";
}

// Backward is towards the data plus towards the weights.
constexpr bool is_backward(Phase phase) { return phase == Phase::kBackwardData || phase == Phase::kBackwardWeights; }

}  // namespace triphase
