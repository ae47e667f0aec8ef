// SPDX-License-Identifier: Apache-2.0
// One run of triphase_steps from the cases to the file: each case's rows go to the journal as soon as they are there,
// and to the results when all are.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bench_results.h"
#include "bin/known_machines.h"
#include "step_flags.h"

namespace triphase {

// Measures the selected cases, keeps their rows, and writes them at the end.
class StepRun {
 public:
  StepRun(Flags flags, std::vector<Case> cases);

  const std::vector<Case>& cases() const { return cases_; }

  // The cases to run, in order, each `repetitions` times. Before anything else.
  void select(const std::vector<int>& indices, int repetitions);
  void dry_run() const;

  // Opens the journal.
  void start();
  // Measures a case once more, or takes it from the journal; gives the median time of its step, in seconds.
  double run_case(int index);
  // Rows for what the run never came to; then the file and the table. Gives the exit code.
  int finish();

 private:
  nlohmann::ordered_json what_results_depend_on() const;
  // Set against the ceilings, which are measured again where a layer ran above them.
  Journal::Rows rows_of(const Case& item, const Repetition& repetition, const Measurement& measured);
  void print_explanations() const;
  nlohmann::ordered_json document() const;
  void print_table() const;
  static std::string outcome(const Journal::Rows& rows);

  Flags flags_;
  std::vector<Case> cases_;
  nlohmann::ordered_json environment_;
  std::optional<KnownMachines> machines_;  // from start() on
  std::optional<Journal> journal_;         // from start() on
  ProgressLine progress_;
  MeasureOptions options_;
  std::vector<int> selected_;
  int repetitions_ = 1;
  std::map<int, int> repetitions_done_;
  std::vector<Done> done_;
  double expected_before_s_ = 0;
};

}  // namespace triphase
