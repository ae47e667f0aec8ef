// SPDX-License-Identifier: Apache-2.0
// Sums of cost over layers and phases, and the ratios of backward to forward. No formula of an op stands here.
#pragma once

#include <map>
#include <vector>

#include "program/program.h"

namespace triphase {

using PhaseCosts = std::map<Phase, Cost>;  // only the phases that have an op

struct Totals {
  std::vector<PhaseCosts> layers;  // by layer index
  PhaseCosts phases;
};

Totals totals(const StepProgram& program);

// Backward over forward of one count; with_update adds the update to the numerator. 0/0 gives no value.
struct Ratio {
  double plain = 0;
  double with_update = 0;
};

Ratio ratio(const PhaseCosts& phases, int64_t Cost::*count);

// The share of the first layers' forward FLOP (nominal) in the network's; 0 where the network has none.
double first_layer_share(const StepProgram& program, const Totals& totals);

}  // namespace triphase
