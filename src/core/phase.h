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

// The passes of a training step: phases that run one after the other, while the two of the backward interleave.
enum class Pass { kForward, kBackward, kUpdate };
inline constexpr std::array kAllPasses = {Pass::kForward, Pass::kBackward, Pass::kUpdate};

// Backward is towards the data plus towards the weights.
constexpr bool is_backward(Phase phase) { return phase == Phase::kBackwardData || phase == Phase::kBackwardWeights; }

constexpr Pass pass_of(Phase phase) {
  if (is_backward(phase)) return Pass::kBackward;
  return phase == Phase::kForward ? Pass::kForward : Pass::kUpdate;
}

}  // namespace triphase
