// SPDX-License-Identifier: Apache-2.0
// What one step costs by counting, as JSON by the contract and as a table. Nothing is timed.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "model/network.h"
#include "program/totals.h"

namespace triphase {

nlohmann::ordered_json cost_json(const Network& network, const StepProgram& program);
std::string cost_table(const Network& network, const StepProgram& program);

}  // namespace triphase
