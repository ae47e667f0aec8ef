// SPDX-License-Identifier: Apache-2.0
// A run of a benchmark binary, from its items to the file: each item's rows go to the journal as soon as they are
// there, and to the results when all are.
//
// Google Benchmark selects and repeats, one registered benchmark an item, and its flags work on items' names. What it
// would lose these programs keep: it sums manual times, writes one run a benchmark, truncates its output on opening and
// can print bare NaN, so samples, rows and --benchmark_out are handled here, in an own schema.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "bench_flags.h"
#include "bench_results.h"
#include "dry_run.h"
#include "report/journal.h"
#include "report/progress.h"
#include "report/rows.h"

namespace triphase {

// What a binary measures at a time: a case, or a kernel.
struct BenchItem {
  std::vector<std::string> names;  // which a filter may match; the last is its own, which is listed
  std::string key;                 // in the journal
  double expected_s = 0;           // a guess for the progress, not a prediction
  std::string cannot_run;          // why not, where that is known already
};

class BenchRun {
 public:
  virtual ~BenchRun() = default;

  // Does what the flags ask for. Gives the exit code.
  int run();

 protected:
  using Json = nlohmann::ordered_json;
  using Rows = Journal::Rows;

  // Of the `program` whose items are called `noun`. The flags must outlive it.
  BenchRun(std::string program, std::string noun, const BenchFlags& flags, std::vector<BenchItem> items);

  // What rows depend on beside the environment: --resume takes over none that were measured under other settings.
  virtual Json settings() const = 0;
  // What the results' context says beside the environment and the settings.
  virtual Json record() const = 0;
  // Learns what the items have in common. Gives what is to be noted.
  virtual std::vector<std::string> start() = 0;
  // Measures an item once more. Or why its backend can no longer run, as when a device was lost: that is not kept for
  // --resume, since another process may do it.
  virtual std::variant<Rows, Unsupported> measured(int item, const Repetition& repetition,
                                                   const StageProgress& watch) = 0;
  virtual Rows skipped_rows(int item, const Repetition& repetition, const std::string& reason) const = 0;
  // A few words.
  virtual std::string outcome(const Rows& rows) const = 0;
  virtual void print(const std::vector<Done>& done) const = 0;
  // What would run, in how much memory and time: an entry for each of these items, expected_s() each.
  virtual DryRun dry_run(const std::vector<int>& items) const = 0;

  // Of all of an item's repetitions.
  double expected_s(int item) const { return items_[static_cast<size_t>(item)].expected_s * flags_.repetitions; }

  MeasureOptions options_;
  ProgressLine progress_;

 private:
  // Measures an item once more, or takes it from the journal.
  void run_item(int item);
  // Rows for what the run never came to; then the file and the tables. Gives the exit code.
  int finish(const std::vector<int>& selected);
  Json results_depend_on() const;

  std::string program_;
  std::string noun_;
  const BenchFlags& flags_;
  std::vector<BenchItem> items_;
  Json environment_;
  std::optional<Journal> journal_;  // once started
  std::map<int, int> repetitions_done_;
  std::vector<Done> done_;
  double expected_before_s_ = 0;
};

}  // namespace triphase
