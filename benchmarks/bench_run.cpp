// SPDX-License-Identifier: Apache-2.0
#include "bench_run.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <iostream>
#include <set>
#include <utility>

#include "bin/signals.h"
#include "report/environment.h"

namespace triphase {
namespace {

constexpr const char* kInterrupted = "interrupted before it was measured";

// Google Benchmark asks for a reporter; rows go their own way, so that this one is silent.
class SilentReporter : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>&) override {}
};

}  // namespace

BenchRun::BenchRun(std::string program, std::string noun, const BenchFlags& flags, std::vector<BenchItem> items)
    : options_(measure_options(flags)),
      progress_(0, 0),
      program_(std::move(program)),
      noun_(std::move(noun)),
      flags_(flags),
      items_(std::move(items)),
      environment_(environment()) {}

int BenchRun::run() {
  std::vector<std::vector<std::string>> names;
  for (const BenchItem& item : items_) names.push_back(item.names);
  const std::vector<int> selected = filtered(names, flags_.filter, noun_);
  if (flags_.list_tests) {
    for (const int i : selected) std::cout << names[static_cast<size_t>(i)].back() << "\n";
    return 0;
  }
  if (flags_.dry_run) {
    std::cout << dry_run(selected).text();
    return 0;
  }
  double all_s = 0;
  for (const int i : selected) all_s += expected_s(i);
  progress_ = ProgressLine(static_cast<int>(selected.size()) * flags_.repetitions, all_s);
  const std::vector<std::string> notes = start();
  journal_.emplace(flags_.out, results_depend_on(), flags_.resume);
  for (const std::string& note : notes) progress_.note(note);
  for (const int i : selected) {
    benchmark::RegisterBenchmark(names[static_cast<size_t>(i)].back().c_str(),
                                 [this, i](benchmark::State& state) {
                                   run_item(i);
                                   for (auto _ : state) state.SetIterationTime(0);  // which nobody reads
                                 })
        ->Iterations(1)
        ->UseManualTime();
  }
  SilentReporter reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter, "all");  // that is, of the selected
  return finish(selected);
}

void BenchRun::run_item(int index) {
  const BenchItem& item = items_[static_cast<size_t>(index)];
  const std::string& name = item.names.back();
  const Repetition repetition{repetitions_done_[index]++, flags_.repetitions};
  const auto position = static_cast<int>(done_.size());
  const StageProgress watch = [&](std::string_view stage, const Samples* so_far) {
    const double share = so_far ? so_far->measured_s / options_.sampling.budget_s : 0;
    progress_.show(position, name, std::string(stage), std::min(share, 1.0), expected_before_s_, item.expected_s);
    return stop_signal() == 0;
  };
  const auto rows = [&]() -> Rows {
    if (const Rows* earlier = journal_->find(item.key, repetition.index)) return *earlier;
    if (stop_signal() != 0) return skipped_rows(index, repetition, kInterrupted);
    if (!item.cannot_run.empty()) return skipped_rows(index, repetition, item.cannot_run);
    auto found = measured(index, repetition, watch);
    if (const auto* why = std::get_if<Unsupported>(&found)) return skipped_rows(index, repetition, why->reason);
    if (stop_signal() == 0) journal_->append(item.key, repetition.index, std::get<Rows>(found));
    return std::get<Rows>(std::move(found));
  };
  Done done{index, repetition.index, rows()};
  expected_before_s_ += item.expected_s;
  const bool good = std::ranges::none_of(done.rows, [](const Json& row) { return row.contains("error_occurred"); });
  progress_.finish(position, name, outcome(done.rows), good);
  done_.push_back(std::move(done));
}

BenchRun::Json BenchRun::results_depend_on() const {
  Json all = {{"environment", environment_["fingerprint"]}};
  all.update(settings());
  return all;
}

int BenchRun::finish(const std::vector<int>& selected) {
  std::set<std::pair<int, int>> have;
  for (const Done& done : done_) have.insert({done.index, done.repetition});
  for (const int i : selected) {
    for (int r = 0; r < flags_.repetitions; ++r) {
      if (!have.contains({i, r})) done_.push_back({i, r, skipped_rows(i, {r, flags_.repetitions}, kInterrupted)});
    }
  }
  Json own = {{"environment", environment_}};
  own.update(record());
  own["settings"] = results_depend_on();
  return conclude(flags_, results_document(program_, flags_, own, done_), *journal_, progress_, [&] { print(done_); });
}

}  // namespace triphase
