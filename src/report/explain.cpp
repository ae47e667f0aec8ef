// SPDX-License-Identifier: Apache-2.0
#include "report/explain.h"

#include <algorithm>

#include "report/format.h"

namespace triphase {
namespace {

using Json = nlohmann::ordered_json;

double lost_s(const Json& row) { return row["median_s"].get<double>() - row["roofline_s"].get<double>(); }

void add(Table& table, const Json& row, double step_s, const std::string& name) {
  const double s = row["median_s"].get<double>();
  const double roofline_s = row["roofline_s"].get<double>();
  table.add({name, row["phase"].get<std::string>(), duration(s), percent(s / step_s), row["bound"].get<std::string>(),
             duration(roofline_s), percent(roofline_s / s), duration(std::max(0.0, s - roofline_s)),
             row.contains("predicted_s") ? duration(row["predicted_s"].get<double>()) : "-",
             row.value("implementation", "")});
}

}  // namespace

std::string explain(const std::vector<Json>& rows) {
  std::vector<const Json*> layers;
  std::vector<const Json*> phases;
  const Json* step = nullptr;
  for (const Json& row : rows) {
    if (!row.contains("median_s") || !row.contains("roofline_s")) continue;
    if (row["phase"] == "step") step = &row;
    (row.contains("layer") ? layers : phases).push_back(&row);
  }
  if (step == nullptr) {
    const Json& any = rows.front();
    return "no ceilings are known to explain the time by: run triphase_ceilings --backend=" +
           any["backend"].get<std::string>() + " --threads=" + std::to_string(any["threads"].get<int>()) + " first\n";
  }
  const double step_s = (*step)["median_s"].get<double>();
  std::ranges::stable_sort(layers, std::greater(), [](const Json* row) { return lost_s(*row); });
  Table table({"layer", "phase", "time", "of the step", "bound", "ceiling's time", "of its ceiling", "lost",
               "predicted", "implementation"});
  for (const Json* row : layers) add(table, *row, step_s, (*row)["layer"].get<std::string>());
  for (const Json& row : rows) {
    if (!row.contains("fused_into")) continue;
    table.add({row["layer"].get<std::string>(), row["phase"].get<std::string>(), "-", "", "", "", "", "", "",
               "within " + row["fused_into"].get<std::string>()});
  }
  table.rule();
  for (const Json* row : phases) add(table, *row, step_s, "all");
  std::string text = table.text();
  if (!layers.empty() && lost_s(*layers.front()) > 0) {
    const Json& worst = *layers.front();
    text += "biggest loss: " + worst["layer"].get<std::string>() + " " + worst["phase"].get<std::string>() + ", " +
            duration(lost_s(worst)) + " beyond what its bound (" + worst["bound"].get<std::string>() + ") allows, " +
            percent(lost_s(worst) / step_s) + " of the step\n";
  }
  return text;
}

}  // namespace triphase
