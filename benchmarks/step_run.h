// SPDX-License-Identifier: Apache-2.0
// One run of triphase_steps.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "bench_run.h"
#include "bin/known_machines.h"
#include "step_flags.h"

namespace triphase {

class StepRun : public BenchRun {
 public:
  // The flags must outlive it.
  StepRun(const StepFlags& flags, std::vector<Case> cases);

 private:
  Json settings() const override;
  Json record() const override;
  std::vector<std::string> start() override;
  std::variant<Rows, Unsupported> measured(int item, const Repetition& repetition, const StageProgress& watch) override;
  Rows skipped_rows(int item, const Repetition& repetition, const std::string& reason) const override;
  std::string outcome(const Rows& rows) const override;
  void print(const std::vector<Done>& done) const override;
  DryRun dry_run(const std::vector<int>& items) const override;

  // Set against the ceilings, which are measured again where a layer ran above them.
  Rows rows_of(const Case& item, const Repetition& repetition, const Measurement& measured);
  void print_table(const std::vector<Done>& done) const;
  const Case& case_of(const Done& done) const { return cases_[static_cast<size_t>(done.index)]; }

  const StepFlags& flags_;
  std::vector<Case> cases_;
  std::optional<KnownMachines> machines_;  // from start() on
};

}  // namespace triphase
