// SPDX-License-Identifier: Apache-2.0
// What the mains of the benchmark binaries share. Google Benchmark selects and repeats, one registered benchmark an
// item, and its flags work on items' names. What it would lose these programs keep: it sums manual times, writes one
// run a benchmark, truncates its output on opening and can print bare NaN, so samples, rows and --benchmark_out are
// handled here, in an own schema.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "bench_flags.h"

namespace triphase {

// Parses the flags into `flags` (those that `app` knows, and Google Benchmark's), then calls `run`. Gives the exit
// code.
int bench_main(int argc, char** argv, CLI::App& app, BenchFlags& flags, const std::function<int()>& run);

// What a binary measures: items that are selected, repeated, and at the end written together.
class BenchRun {
 public:
  virtual ~BenchRun() = default;

  // By item, what a filter may match; the last is the item's own name, which is listed.
  virtual std::vector<std::vector<std::string>> names() const = 0;
  // The items to run, in order, each `repetitions` times. Before anything else.
  virtual void select(const std::vector<int>& indices, int repetitions) = 0;
  // Prints what would run, in how much memory and time.
  virtual void dry_run() const = 0;
  // Learns what the items have in common and opens the journal.
  virtual void start() = 0;
  // Measures an item once more, or takes it from the journal; gives its first row's median time, in seconds.
  virtual double run_item(int index) = 0;
  // Rows for what the run never came to; then the file and the table. Gives the exit code.
  virtual int finish() = 0;
};

// Does with a run what the flags ask for; `noun` is what its items are called. Gives the exit code.
int run_selected(BenchRun& run, const std::string& noun, const BenchFlags& flags);

}  // namespace triphase
