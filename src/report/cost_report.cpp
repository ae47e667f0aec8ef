// SPDX-License-Identifier: Apache-2.0
#include "report/cost_report.h"

namespace triphase {
namespace {

using Json = nlohmann::ordered_json;

std::string bytes(int64_t count) { return si(static_cast<double>(count)) + "B"; }

Json phases_json(const PhaseCosts& phases) {
  Json json = Json::object();
  for (const auto& [phase, cost] : phases) {
    json[std::string(to_string(phase))] = {{"flop", cost.flop},
                                           {"flop_unpadded", cost.flop_unpadded},
                                           {"flop_executed", cost.flop_executed},
                                           {"traffic_bytes", cost.traffic_bytes}};
  }
  return json;
}

void add_rows(Table& table, const std::string& name, const std::string& kind, const PhaseCosts& phases) {
  bool first = true;
  for (const auto& [phase, cost] : phases) {
    table.add({first ? name : "", first ? kind : "", std::string(to_string(phase)), si(static_cast<double>(cost.flop)),
               si(static_cast<double>(cost.flop_unpadded)), si(static_cast<double>(cost.flop_executed)),
               bytes(cost.traffic_bytes)});
    first = false;
  }
}

}  // namespace

Json cost_json(const Network& network, const StepProgram& program) {
  const Totals sums = totals(program);
  Json layers = Json::array();
  for (size_t i = 0; i < program.layers.size(); ++i) {
    const LayerInfo& layer = program.layers[i];
    layers.push_back({{"name", layer.name}, {"kind", layer.kind}, {"phases", phases_json(sums.layers[i])}});
  }
  const Ratio flop = ratio(sums.phases, &Cost::flop);
  const Ratio executed = ratio(sums.phases, &Cost::flop_executed);
  const Ratio bytes = ratio(sums.phases, &Cost::traffic_bytes);
  const Memory held = logical_memory(program);
  Json json = {{"schema", 1},
               {"model", network.spec},
               {"model_parameters", network.parameters},
               {"batch", program.batch},
               {"dtype", to_string(program.precision)},
               {"optimizer", name_of(program.optimizer)},
               {"parameters", parameter_count(program)},
               {"first_layer_share", first_layer_share(program, sums)},
               {"layers", layers},
               {"totals", phases_json(sums.phases)},
               {"ratio",
                {{"flop", flop.plain},
                 {"flop_with_update", flop.with_update},
                 {"flop_executed", executed.plain},
                 {"flop_executed_with_update", executed.with_update},
                 {"bytes", bytes.plain},
                 {"bytes_with_update", bytes.with_update}}},
               {"memory_bytes",
                {{"parameters", held.parameters},
                 {"gradients", held.gradients},
                 {"optimizer_state", held.optimizer_state},
                 {"activations", held.activations},
                 {"statistics", held.statistics},
                 {"input", held.input},
                 {"total", held.total}}}};
  if (program.precision == Precision::kF16) json["loss_scale"] = program.loss_scale;
  return json;
}

std::string cost_table(const Network& network, const StepProgram& program) {
  const Totals sums = totals(program);
  const Memory held = logical_memory(program);
  std::string text = network.spec + ", batch " + std::to_string(program.batch) + ", " +
                     std::string(to_string(program.precision)) + ", " + std::string(name_of(program.optimizer)) + ": " +
                     std::to_string(parameter_count(program)) + " parameters" +
                     (program.loss_scale == 1 ? "" : ", loss times " + fixed(program.loss_scale, 0)) + "\n\n";
  Table table({"layer", "kind", "phase", "FLOP", "FLOP unpadded", "FLOP executed", "traffic"});
  for (size_t i = 0; i < program.layers.size(); ++i) {
    add_rows(table, program.layers[i].name, program.layers[i].kind, sums.layers[i]);
  }
  table.rule();
  add_rows(table, "all", "", sums.phases);
  text += table.text();

  Table ratios({"backward / forward", "without update", "with update"});
  const auto add_ratio = [&](const std::string& name, int64_t Cost::*count) {
    const Ratio r = ratio(sums.phases, count);
    ratios.add({name, fixed(r.plain, 4), fixed(r.with_update, 4)});
  };
  add_ratio("FLOP", &Cost::flop);
  add_ratio("FLOP executed", &Cost::flop_executed);
  add_ratio("bytes", &Cost::traffic_bytes);
  text += "\n" + ratios.text();
  text += "\nfirst layers' share of the forward FLOP: " + fixed(first_layer_share(program, sums), 6) + "\n";

  text += "memory: " + bytes(held.total) + " = parameters " + bytes(held.parameters) + " + gradients " +
          bytes(held.gradients) + " + optimizer state " + bytes(held.optimizer_state) + " + activations " +
          bytes(held.activations) + " + statistics " + bytes(held.statistics) + " + input " + bytes(held.input) + "\n";
  return text;
}

void CostSummary::add(const Network& network, const StepProgram& program) {
  const Totals sums = totals(program);
  Cost step;
  for (const auto& [phase, cost] : sums.phases) step += cost;
  const Ratio flop = ratio(sums.phases, &Cost::flop);
  const Ratio traffic = ratio(sums.phases, &Cost::traffic_bytes);
  table_.add({network.spec, std::to_string(program.batch), std::string(to_string(program.precision)),
              std::string(name_of(program.optimizer)), si(static_cast<double>(parameter_count(program))),
              si(static_cast<double>(step.flop)), bytes(step.traffic_bytes), bytes(logical_memory(program).total),
              fixed(flop.plain, 4), fixed(flop.with_update, 4), fixed(traffic.plain, 4),
              fixed(traffic.with_update, 4)});
}

std::string CostSummary::text() const {
  return table_.text() +
         "\nFLOP (nominal) and traffic of a whole step, update included. Ratios: backward / forward, with update "
         "(backward + update) / forward.\n";
}

}  // namespace triphase
