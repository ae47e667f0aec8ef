// SPDX-License-Identifier: Apache-2.0
#include "program/totals.h"

namespace triphase {

Totals totals(const StepProgram& program) {
  Totals totals;
  totals.layers.resize(program.layers.size());
  for (const Op& op : program.ops) {
    const Cost op_cost = cost(program, op);
    totals.layers[static_cast<size_t>(op.layer)][op.phase] += op_cost;
    totals.phases[op.phase] += op_cost;
  }
  return totals;
}

Ratio ratio(const PhaseCosts& phases, int64_t Cost::*count) {
  const auto of = [&](Phase phase) {
    const auto found = phases.find(phase);
    return found == phases.end() ? 0.0 : static_cast<double>(found->second.*count);
  };
  const double forward = of(Phase::kForward);
  if (forward == 0) return {};
  const double backward = of(Phase::kBackwardData) + of(Phase::kBackwardWeights);
  return {backward / forward, (backward + of(Phase::kUpdate)) / forward};
}

double first_layer_share(const StepProgram& program, const Totals& totals) {
  int64_t first = 0;
  int64_t all = 0;
  for (size_t i = 0; i < totals.layers.size(); ++i) {
    const auto forward = totals.layers[i].find(Phase::kForward);
    if (forward == totals.layers[i].end()) continue;
    all += forward->second.flop;
    if (program.layers[i].first) first += forward->second.flop;
  }
  return all == 0 ? 0.0 : static_cast<double>(first) / static_cast<double>(all);
}

}  // namespace triphase
