// SPDX-License-Identifier: Apache-2.0
// One run of triphase_steps from the cases to the file: each case's rows go to the journal as soon as they are there,
// and to the results when all are.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bench_main.h"
#include "bench_results.h"
#include "bin/known_machines.h"
#include "step_flags.h"

namespace triphase {

// Measures the selected cases, keeps their rows, and writes them at the end.
class StepRun : public BenchRun {
 public:
  StepRun(Flags flags, std::vector<Case> cases);

  std::vector<std::vector<std::string>> names() const override;
  void select(const std::vector<int>& indices, int repetitions) override;
  void dry_run() const override;
  void start() override;
  double run_item(int index) override;
  int finish() override;

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
