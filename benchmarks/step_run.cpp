// SPDX-License-Identifier: Apache-2.0
#include "step_run.h"

#include <algorithm>
#include <iostream>

#include "bin/signals.h"
#include "report/explain.h"
#include "report/format.h"

namespace triphase {
namespace {

const nlohmann::ordered_json& step_row(const Journal::Rows& rows) {
  for (const auto& row : rows) {
    if (row["phase"] == "step") return row;
  }
  return rows.front();
}

// A network's file may change between runs.
std::vector<BenchItem> items(const std::vector<Case>& cases) {
  std::vector<BenchItem> all;
  for (const Case& item : cases) {
    const std::string name = item.id.name();
    all.push_back({{name}, name + "/network:" + std::to_string(item.network), item.expected_s, item.cannot_run});
  }
  return all;
}

}  // namespace

StepRun::StepRun(const StepFlags& flags, std::vector<Case> cases)
    : BenchRun("triphase_steps", "case", flags, items(cases)), flags_(flags), cases_(std::move(cases)) {
  options_.sampling.budget_s = flags_.time_per_case_s;
  options_.sampling.relative_half_width = flags_.interval;
}

StepRun::Json StepRun::settings() const {
  return {{"threads", flags_.threads},    {"verify", flags_.verify},
          {"seed", flags_.seed},          {"time_per_case", flags_.time_per_case_s},
          {"precision", flags_.interval}, {"ceilings", machines_->measured_at()}};
}

StepRun::Json StepRun::record() const { return {{"ceilings", machines_->record()}}; }

std::vector<std::string> StepRun::start() {
  std::vector<std::string> notes;
  machines_.emplace(flags_.ceilings, flags_.backends, flags_.threads, notes);
  options_.max_memory_bytes = memory_to_use(flags_.max_memory);  // beside the gauge
  return notes;
}

std::string StepRun::outcome(const Rows& rows) const {
  const Json& step = step_row(rows);
  if (!step.contains("median_s")) return step.value("status", "") + ": " + step.value("reason", "");
  std::string text = duration(step["median_s"].get<double>()) + " a step";
  if (step.contains("ratio_time")) text += ", backward/forward " + fixed(step["ratio_time"].get<double>(), 2);
  return text;
}

std::variant<StepRun::Rows, Unsupported> StepRun::measured(int index, const Repetition& repetition,
                                                           const StageProgress& watch) {
  const Case& item = cases_[static_cast<size_t>(index)];
  const auto made = make_backend(item.id.backend);
  if (const auto* why = std::get_if<Unsupported>(&made)) return *why;
  Backend& backend = *std::get<std::unique_ptr<Backend>>(made);
  MeasureOptions options = options_;
  options.gauge = machines_->gauge(item.id.backend);
  options.max_memory_bytes = memory_to_use(flags_.max_memory, backend, options_.max_memory_bytes);
  return rows_of(item, repetition, measure(*item.program, backend, options, watch));
}

StepRun::Rows StepRun::skipped_rows(int index, const Repetition& repetition, const std::string& reason) const {
  const Case& item = cases_[static_cast<size_t>(index)];
  return rows(item.id, repetition, *item.program, skipped(reason));
}

StepRun::Rows StepRun::rows_of(const Case& item, const Repetition& repetition, const Measurement& measured) {
  const auto against_ceilings = [&] {
    return rows(item.id, repetition, *item.program, measured,
                machines_->expectation(item.id.backend, *item.program, measured));
  };
  Rows result = against_ceilings();
  if (const Json* row = KnownMachines::above_ceiling(result); row != nullptr && stop_signal() == 0) {
    if (const std::string text = machines_->remeasure(item.id.backend, *row); !text.empty()) {
      progress_.note(text);
      result = against_ceilings();
    }
  }
  return result;
}

DryRun StepRun::dry_run(const std::vector<int>& indices) const {
  DryRun run({"case"}, "cases", flags_);
  for (const int i : indices) {
    const Case& item = cases_[static_cast<size_t>(i)];
    run.add({item.id.name()}, *item.program, item.id.backend, item.cannot_run, expected_s(i));
  }
  return run;
}

void StepRun::print_table(const std::vector<Done>& all) const {
  // Where all cases have one, it says nothing.
  const auto differs = [&](std::string CaseId::*part) {
    return std::ranges::any_of(cases_, [&](const Case& item) { return item.id.*part != cases_.front().id.*part; });
  };
  const bool dtypes = differs(&CaseId::dtype);
  const bool backends = differs(&CaseId::backend);
  const std::string settings = std::string(dtypes ? "dtype, " : "") + "optimizer" + (backends ? ", backend" : "");
  Table table({"model", "batch", settings, "step", "forward", "backward", "update", "bwd/fwd FLOP", "time",
               "with update: FLOP", "time"});
  std::string problems;
  Disturbed disturbed;
  for (const Done& done : all) {
    const Json& step = step_row(done.rows);
    if (!step.contains("median_s")) {
      problems += step.value("status", "") + ": " + case_of(done).id.name() + ": " + step.value("reason", "") + "\n";
      continue;
    }
    const auto time_of = [&](const std::string& phase) -> std::string {
      for (const Json& row : done.rows) {
        if (row["phase"] == phase && !row.contains("layer")) return duration(row["median_s"].get<double>());
      }
      return "";
    };
    const auto number = [&](const char* key) {
      return step.contains(key) ? fixed(step[key].get<double>(), 2) : std::string("-");
    };
    const CaseId& id = case_of(done).id;
    table.add({id.model, std::to_string(id.batch),
               (dtypes ? id.dtype + ", " : "") + id.optimizer + (backends ? ", " + id.backend : ""),
               time_of("step") + disturbed.mark(step), time_of("forward"), time_of("backward"), time_of("update"),
               number("ratio_flop"), number("ratio_time"), number("ratio_flop_with_update"),
               number("ratio_time_with_update")});
  }
  std::cout << "\n" << table.text();
  size_t above = 0;
  double most = 0;
  for (const Done& done : all) {
    for (const Json& row : done.rows) {
      above += row.contains("above_ceiling");
      most = std::max(most, row.value("above_ceiling", 0.0));
    }
  }
  if (above > 0) {
    std::cout
        << "\n"
        << above << " layers' phases ran above their ceiling, by up to " << fixed(100 * (most - 1), 0)
        << " %: the machine was faster at the time than is known, or their bytes came from nearer than was taken.\n";
  }
  if (!problems.empty()) std::cout << "\n" << problems;
  std::cout << disturbed.text("cases");
}

void StepRun::print(const std::vector<Done>& all) const {
  print_table(all);
  if (!flags_.explain) return;
  for (const Done& done : all) std::cout << "\n" << case_of(done).id.name() << "\n" << explain(done.rows);
}

}  // namespace triphase
