// SPDX-License-Identifier: Apache-2.0
// What one step costs by counting, as JSON by the contract and as a table. Nothing is timed.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "model/network.h"
#include "program/totals.h"
#include "report/format.h"

namespace triphase {

nlohmann::ordered_json cost_json(const Network& network, const StepProgram& program);
std::string cost_table(const Network& network, const StepProgram& program);

// Several steps, a line each.
class CostSummary {
 public:
  void add(const Network& network, const StepProgram& program);
  std::string text() const;

 private:
  Table table_{{"model", "batch", "dtype", "optimizer", "parameters", "FLOP", "traffic", "memory", "FLOP ratio",
                "with update", "bytes ratio", "with update"}};
};

}  // namespace triphase
