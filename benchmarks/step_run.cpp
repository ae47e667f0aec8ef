// SPDX-License-Identifier: Apache-2.0
#include "step_run.h"

#include <algorithm>
#include <iostream>

#include "bin/signals.h"
#include "dry_run.h"
#include "report/environment.h"
#include "report/explain.h"
#include "report/format.h"

namespace triphase {

using Json = nlohmann::ordered_json;

namespace {

const Json& step_row(const Journal::Rows& rows) {
  for (const Json& row : rows) {
    if (row["phase"] == "step") return row;
  }
  return rows.front();
}

}  // namespace

StepRun::StepRun(Flags flags, std::vector<Case> cases)
    : flags_(std::move(flags)),
      cases_(std::move(cases)),
      environment_(environment()),
      progress_(static_cast<int>(cases_.size()), 0),
      options_(measure_options(flags_)) {
  options_.sampling.budget_s = flags_.time_per_case_s;
  options_.sampling.relative_half_width = flags_.interval;
}

Json StepRun::what_results_depend_on() const {
  return {{"environment", environment_["fingerprint"]},
          {"threads", flags_.threads},
          {"verify", flags_.verify},
          {"seed", flags_.seed},
          {"time_per_case", flags_.time_per_case_s},
          {"precision", flags_.interval}};
}

std::vector<std::vector<std::string>> StepRun::names() const {
  std::vector<std::vector<std::string>> all;
  for (const Case& item : cases_) all.push_back({item.id.name()});
  return all;
}

void StepRun::select(const std::vector<int>& indices, int repetitions) {
  selected_ = indices;
  repetitions_ = repetitions;
  double expected_s = 0;
  for (const int i : indices) expected_s += cases_[static_cast<size_t>(i)].expected_s * repetitions;
  progress_ = ProgressLine(static_cast<int>(indices.size()) * repetitions, expected_s);
}

void StepRun::start() {
  std::vector<std::string> notes;
  machines_.emplace(flags_.ceilings, flags_.backends, flags_.threads, notes);
  options_.max_memory_bytes = memory_to_use(flags_.max_memory);  // beside the gauge
  journal_.emplace(flags_.out, what_results_depend_on(), flags_.resume);
  for (const std::string& note : notes) progress_.note(note);
}

std::string StepRun::outcome(const Journal::Rows& rows) {
  const Json& step = step_row(rows);
  if (!step.contains("median_s")) return step.value("status", "") + ": " + step.value("reason", "");
  std::string text = duration(step["median_s"].get<double>()) + " a step";
  if (step.contains("ratio_time")) text += ", backward/forward " + fixed(step["ratio_time"].get<double>(), 2);
  return text;
}

double StepRun::run_item(int index) {
  const Case& item = cases_[static_cast<size_t>(index)];
  const std::string name = item.id.name();
  const int repetition = repetitions_done_[index]++;
  const auto position = static_cast<int>(done_.size());
  Done done{index, repetition, {}};
  bool measured = false;
  const std::string key = name + "/network:" + std::to_string(item.network);  // a file may change between runs
  if (const Journal::Rows* earlier = journal_->find(key, repetition)) {
    done.rows = *earlier;
  } else {
    Measurement result;
    if (stop_signal() != 0) {
      result = skipped("interrupted before it was measured");
    } else if (!item.cannot_run.empty()) {
      result = skipped(item.cannot_run);
    } else if (const auto made = make_backend(item.id.backend); const auto* why = std::get_if<Unsupported>(&made)) {
      result = skipped(why->reason);  // it could run when the run began: a device may be lost
    } else {
      Backend& backend = *std::get<std::unique_ptr<Backend>>(made);
      MeasureOptions options = options_;
      options.gauge = machines_->gauge(item.id.backend);
      options.max_memory_bytes = memory_to_use(flags_.max_memory, backend, options_.max_memory_bytes);
      result = measure(*item.program, backend, options, [&](std::string_view stage, const Samples* so_far) {
        const double share = so_far ? so_far->measured_s / options_.sampling.budget_s : 0;
        progress_.show(position, name, std::string(stage), std::min(share, 1.0), expected_before_s_, item.expected_s);
        return stop_signal() == 0;
      });
      measured = stop_signal() == 0;
    }
    done.rows = rows_of(item, {repetition, repetitions_}, result);
  }
  expected_before_s_ += item.expected_s;
  if (measured) journal_->append(key, repetition, done.rows);
  progress_.finish(position, name, outcome(done.rows), !step_row(done.rows).contains("error_occurred"));
  const Json& step = step_row(done.rows);
  const double median_s = step.value("median_s", 0.0);
  done_.push_back(std::move(done));
  return median_s;
}

Journal::Rows StepRun::rows_of(const Case& item, const Repetition& repetition, const Measurement& measured) {
  const auto against_ceilings = [&] {
    return rows(item.id, repetition, *item.program, measured,
                machines_->expectation(item.id.backend, *item.program, measured));
  };
  Journal::Rows result = against_ceilings();
  if (const Json* row = KnownMachines::above_ceiling(result); row != nullptr && stop_signal() == 0) {
    if (const std::string text = machines_->remeasure(item.id.backend, *row); !text.empty()) {
      progress_.note(text);
      result = against_ceilings();
    }
  }
  return result;
}

void StepRun::dry_run() const {
  DryRun run({"case"}, "cases", flags_);
  for (const int i : selected_) {
    const Case& item = cases_[static_cast<size_t>(i)];
    const std::string name = item.id.name();
    run.add({name}, *item.program, item.id.backend, item.cannot_run, item.expected_s * repetitions_);
  }
  std::cout << run.text();
}

Json StepRun::document() const {
  return results_document(
      "triphase_steps", flags_,
      {{"environment", environment_}, {"ceilings", machines_->record()}, {"settings", what_results_depend_on()}},
      done_);
}

void StepRun::print_table() const {
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
  for (const Done& done : done_) {
    const Json& step = step_row(done.rows);
    if (!step.contains("median_s")) {
      problems += step.value("status", "") + ": " + cases_[static_cast<size_t>(done.index)].id.name() + ": " +
                  step.value("reason", "") + "\n";
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
    const CaseId& id = cases_[static_cast<size_t>(done.index)].id;
    table.add({id.model, std::to_string(id.batch),
               (dtypes ? id.dtype + ", " : "") + id.optimizer + (backends ? ", " + id.backend : ""),
               time_of("step") + disturbed.mark(step), time_of("forward"), time_of("backward"), time_of("update"),
               number("ratio_flop"), number("ratio_time"), number("ratio_flop_with_update"),
               number("ratio_time_with_update")});
  }
  std::cout << "\n" << table.text();
  size_t above = 0;
  double most = 0;
  for (const Done& done : done_) {
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

void StepRun::print_explanations() const {
  for (const Done& done : done_) {
    std::cout << "\n" << cases_[static_cast<size_t>(done.index)].id.name() << "\n" << explain(done.rows);
  }
}

int StepRun::finish() {
  std::map<std::pair<int, int>, bool> have;
  for (const Done& done : done_) have[{done.index, done.repetition}] = true;
  for (const int i : selected_) {
    for (int r = 0; r < repetitions_; ++r) {
      if (have.contains({i, r})) continue;
      const Case& item = cases_[static_cast<size_t>(i)];
      done_.push_back(
          {i, r, rows(item.id, {r, repetitions_}, *item.program, skipped("interrupted before it was measured"))});
    }
  }
  return conclude(flags_, document(), *journal_, progress_, [&] {
    print_table();
    if (flags_.explain) print_explanations();
  });
}

}  // namespace triphase
