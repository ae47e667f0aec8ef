// SPDX-License-Identifier: Apache-2.0
// Which row, if any, ran above its ceiling.
#include "bin/known_machines.h"

#include <gtest/gtest.h>

namespace triphase {
namespace {

using Json = nlohmann::ordered_json;

Json row(const char* layer, double above) { return {{"layer", layer}, {"above_ceiling", above}}; }

TEST(AboveCeiling, is_the_row_farthest_above) {
  const std::vector<Json> rows = {row("a", 1.2), row("b", 1.5), {{"layer", "c"}}};
  const Json* found = KnownMachines::above_ceiling(rows);
  ASSERT_NE(found, nullptr);
  EXPECT_EQ((*found)["layer"], "b");
}

TEST(AboveCeiling, is_none_within_the_noise_of_the_gauge) {
  EXPECT_EQ(KnownMachines::above_ceiling({row("a", 1.04)}), nullptr);
  EXPECT_EQ(KnownMachines::above_ceiling({}), nullptr);
}

TEST(KnownMachines, that_are_switched_off_know_nothing) {
  std::vector<std::string> notes;
  const KnownMachines machines("off", {"onednn", "reference"}, 2, notes);
  EXPECT_TRUE(notes.empty());
  EXPECT_EQ(machines.gauge("onednn"), nullptr);
  EXPECT_TRUE(machines.record().empty());
}

}  // namespace
}  // namespace triphase
