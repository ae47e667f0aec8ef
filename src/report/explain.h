// SPDX-License-Identifier: Apache-2.0
// What each phase lacks: for a measured case, every layer and phase with its time, what bounds it and how far it is
// from its ceiling, the biggest loss first.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace triphase {

// From the rows of one case and repetition; says so where they carry no ceilings. Time lost is what a row took beyond
// the time that its bound allows.
std::string explain(const std::vector<nlohmann::ordered_json>& rows);

}  // namespace triphase
