// SPDX-License-Identifier: Apache-2.0
#include "report/rows.h"

#include <algorithm>
#include <functional>
#include <set>

#include "core/join.h"
#include "measure/summary.h"
#include "program/precision.h"
#include "report/row_parts.h"

namespace triphase {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kPhaseSamplesKept = 200;
constexpr size_t kLayerSamplesKept = 20;

class RowWriter {
 public:
  RowWriter(const CaseId& id, const Repetition& repetition, const StepProgram& program, const Measurement& measurement,
            const Expectation& expectation)
      : id_(id),
        repetition_(repetition),
        program_(program),
        measured_(measurement),
        expected_(expectation),
        totals_(totals(program)) {
    for (const Group& group : measured_.groups) {
      const Op& main = program.ops[static_cast<size_t>(group.ops.front())];
      Planned& planned = planned_[{main.layer, main.phase}];
      planned.traffic_bytes += group.traffic_bytes;
      if (std::ranges::find(planned.implementations, group.implementation.name) == planned.implementations.end()) {
        planned.implementations.push_back(group.implementation.name);
      }
      for (const int op : group.ops) {
        const Op& fused = program.ops[static_cast<size_t>(op)];
        if (fused.layer != main.layer)
          fused_into_[{fused.layer, fused.phase}] = program.layers[static_cast<size_t>(main.layer)].name;
      }
    }
    // A layer that has a group of its own as well is no layer fused away.
    for (const auto& [segment, planned] : planned_) fused_into_.erase(segment);
  }

  std::vector<Json> write() {
    const Samples& samples = measured_.samples;
    for (const auto& [phase, cost] : totals_.phases) {
      const bool whole_pass = !is_backward(phase);
      write_phase(std::string(to_string(phase)), cost, {phase},
                  whole_pass ? samples.of(pass_of(phase)) : samples.of(phase));
    }
    Cost backward;
    Cost step;
    for (const auto& [phase, cost] : totals_.phases) {
      step += cost;
      if (is_backward(phase)) backward += cost;
    }
    write_phase("backward", backward, {Phase::kBackwardData, Phase::kBackwardWeights}, samples.of(Pass::kBackward));
    write_phase("step", step, {kAllPhases.begin(), kAllPhases.end()}, samples.step_s);
    write_ratios(rows_.back());
    for (size_t layer = 0; layer < program_.layers.size(); ++layer) {
      for (const auto& [phase, cost] : totals_.layers[layer]) write_layer(static_cast<int>(layer), phase, cost);
    }
    return std::move(rows_);
  }

 private:
  using Key = std::pair<int, Phase>;
  struct Planned {
    int64_t traffic_bytes = 0;
    std::vector<std::string> implementations;
  };

  Json& begin_row(const std::string& path, const std::string& phase, const Cost& cost) {
    const std::string name = id_.name() + path + "/" + phase + "/real_time";
    Json row = named_row(name, repetition_, id_.threads);
    row.update({{"model", id_.model},
                {"model_name", id_.model_name},
                {"model_parameters", id_.model_parameters},
                {"phase", phase},
                {"batch", id_.batch},
                {"dtype", id_.dtype},
                {"optimizer", id_.optimizer},
                {"backend", id_.backend}});
    if (program_.precision == Precision::kF16) row["loss_scale"] = program_.loss_scale;
    write_status(row, measured_);
    write_cost(row, cost);
    rows_.push_back(std::move(row));
    return rows_.back();
  }

  void write_expectation(Json& row, const std::function<bool(const Demand&)>& included) {
    std::vector<const Demand*> parts;
    for (const Demand& demand : expected_.demands) {
      if (included(demand)) parts.push_back(&demand);
    }
    if (parts.empty()) return;
    const Roofline limit = roofline(parts);
    if (limit.s <= 0) return;
    row["roofline_s"] = limit.s;
    row["bound"] = limit.bound;
    if (const auto s = predicted_s(parts, expected_.factors)) row["predicted_s"] = *s;
  }

  // A ceiling that was passed is no ceiling: it is said, never clipped. Short times are the clock's and latency's;
  // of times that others disturbed nothing is said.
  static void write_excess(Json& row) {
    constexpr double kShortestS = 50e-6;
    constexpr double kLeast = 1.01;  // less is within what times and ceilings are known to
    if (!row.contains("median_s") || !row.contains("roofline_s") || row["bound"] == "latency") return;
    if (row.contains("disturbed")) return;
    const double s = row["median_s"].get<double>();
    const double excess = row["roofline_s"].get<double>() / s;
    if (s >= kShortestS && excess > kLeast) row["above_ceiling"] = excess;
  }

  void write_phase(const std::string& name, const Cost& cost, const std::set<Phase>& phases,
                   std::span<const double> series_s) {
    Json& row = begin_row("", name, cost);
    if (!measured_.groups.empty()) {
      int64_t planned_bytes = 0;
      for (const auto& [key, planned] : planned_)
        planned_bytes += phases.contains(key.second) ? planned.traffic_bytes : 0;
      row["traffic_bytes_planned"] = planned_bytes;
    }
    write_expectation(row, [&](const Demand& demand) { return phases.contains(demand.phase); });
    if (!ran(measured_)) return;
    write_times(row, measured_, series_s, kPhaseSamplesKept);
    if (series_s.empty()) write_status(row, skipped("no step with phase marks fitted in the time"));
  }

  void write_layer(int layer, Phase phase, const Cost& cost) {
    const LayerInfo& info = program_.layers[static_cast<size_t>(layer)];
    Json& row = begin_row("/layer:" + info.name, std::string(to_string(phase)), cost);
    row["layer"] = info.name;
    row["layer_kind"] = info.kind;
    if (const auto fused = fused_into_.find({layer, phase}); fused != fused_into_.end()) {
      row["fused_into"] = fused->second;
      return;
    }
    if (const auto planned = planned_.find({layer, phase}); planned != planned_.end()) {
      row["implementation"] = join(planned->second.implementations);
      row["traffic_bytes_planned"] = planned->second.traffic_bytes;
    }
    write_expectation(row, [&](const Demand& demand) { return demand.layer == layer && demand.phase == phase; });
    if (!ran(measured_)) return;
    for (const Samples::Layer& series : measured_.samples.layers) {
      if (series.layer == layer && series.phase == phase) write_times(row, measured_, series.s, kLayerSamplesKept);
    }
    write_excess(row);
    if (!row.contains("median_s")) write_status(row, skipped("no step with layer marks fitted in the time"));
  }

  void write_ratios(Json& row) {
    const Ratio flop = ratio(totals_.phases, &Cost::flop);
    const Ratio executed = ratio(totals_.phases, &Cost::flop_executed);
    const Ratio bytes = ratio(totals_.phases, &Cost::traffic_bytes);
    row["ratio_flop"] = flop.plain;
    row["ratio_flop_with_update"] = flop.with_update;
    row["ratio_flop_executed"] = executed.plain;
    row["ratio_flop_executed_with_update"] = executed.with_update;
    row["ratio_bytes"] = bytes.plain;
    row["ratio_bytes_with_update"] = bytes.with_update;
    row["first_layer_share"] = first_layer_share(program_, totals_);
    row["parameter_count"] = parameter_count(program_);
    const Memory memory = logical_memory(program_);
    row["memory_bytes"] = {{"parameters", memory.parameters},
                           {"gradients", memory.gradients},
                           {"optimizer_state", memory.optimizer_state},
                           {"activations", memory.activations},
                           {"statistics", memory.statistics},
                           {"input", memory.input},
                           {"total", memory.total}};
    if (!measured_.groups.empty()) row["memory_planned_bytes"] = measured_.memory.peak_bytes();
    if (!ran(measured_)) return;
    const Samples& samples = measured_.samples;
    const std::span<const double> forward_s = samples.of(Pass::kForward);
    write_time_ratio(row, "ratio_time", ratio_summary(samples.of(Pass::kBackward), forward_s));
    write_time_ratio(row, "ratio_time_with_update", ratio_summary(backward_and_update_s(samples), forward_s));
    if (expected_.peak_flop_per_s > 0 && row.contains("median_s")) {
      row["mfu"] = row["flop"].get<double>() / row["median_s"].get<double>() / expected_.peak_flop_per_s;
    }
    write_run(row, measured_);
    if (const auto overhead = marking_overhead(samples)) row["marking_overhead"] = *overhead;
    if (const auto overhead = layer_marking_overhead(samples)) row["layer_marking_overhead"] = *overhead;
    if (measured_.launch_overhead) row["launch_overhead"] = *measured_.launch_overhead;
    if (!measured_.readings.empty() && !measured_.disturbed) {
      row["machine_speed"] = {{"arithmetic", expected_.speed.arithmetic},
                              {"cache", expected_.speed.cache},
                              {"memory", expected_.speed.memory}};
    }
  }

  static void write_time_ratio(Json& row, const std::string& key, const std::optional<RatioSummary>& summary) {
    if (!summary) return;
    row[key] = summary->median;
    if (!summary->ci95) return;
    row[key + "_ci95_low"] = summary->ci95->low;
    row[key + "_ci95_high"] = summary->ci95->high;
  }

  const CaseId& id_;
  const Repetition& repetition_;
  const StepProgram& program_;
  const Measurement& measured_;
  const Expectation& expected_;
  Totals totals_;
  std::map<Key, Planned> planned_;
  std::map<Key, std::string> fused_into_;
  std::vector<Json> rows_;
};

}  // namespace

std::string CaseId::name() const {
  const Precision precision = precision_named(dtype).value_or(Precision::kF32);
  return model + "/batch:" + std::to_string(batch) + "/dtype:" + dtype + "/optimizer:" + optimizer +
         "/backend:" + backend + loss_scale_suffix(precision, loss_scale);
}

std::vector<Json> rows(const CaseId& id, const Repetition& repetition, const StepProgram& program,
                       const Measurement& measurement, const Expectation& expectation) {
  return RowWriter(id, repetition, program, measurement, expectation).write();
}

}  // namespace triphase
