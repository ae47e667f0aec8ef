// SPDX-License-Identifier: Apache-2.0
// The flags of triphase_steps: its own, and those of Google Benchmark that it must answer itself or know as well.
#pragma once

#include <string>
#include <vector>

#include "bin/cases.h"
#include "bin/cli.h"

namespace triphase {

struct Flags {
  Selection selection;
  int threads = 0;
  std::string verify = "sampled";
  std::string max_memory;
  double time_per_case_s = 4;
  double precision = 0.01;
  uint64_t seed = 1;
  std::string ceilings = "auto";
  bool explain = false;
  bool dry_run = false;
  bool resume = false;
  // Google Benchmark's, taken from it.
  std::string out;
  std::string format = "console";
  std::vector<std::string> context;
};

// Splits off the flags of Google Benchmark that this program answers itself; the others stay in `arguments`.
Flags take_benchmark_flags(std::vector<std::string>& arguments);

struct BenchmarkFlags {
  std::string filter = ".";
  int repetitions = 1;
  bool list = false;
};

// What of Google Benchmark's own flags this program must know as well.
BenchmarkFlags read_benchmark_flags(const std::vector<std::string>& arguments);

void add_flags(CLI::App& app, Flags& flags);

// The indices of the cases that a filter keeps, as Google Benchmark reads it: a leading - excludes.
std::vector<int> filtered(const std::vector<Case>& cases, std::string filter);

}  // namespace triphase
