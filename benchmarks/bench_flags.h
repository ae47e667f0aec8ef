// SPDX-License-Identifier: Apache-2.0
// The flags that every benchmark binary has: what to run and how, and those of Google Benchmark, which it answers
// itself.
#pragma once

#include <string>
#include <vector>

#include "bin/cases.h"
#include "bin/cli.h"

namespace triphase {

struct BenchFlags {
  Selection selection;
  std::vector<std::string> backends = {"onednn"};
  int threads = 0;  // every processor that the process may use
  std::string verify = "sampled";
  std::string max_memory;
  uint64_t seed = 1;
  bool dry_run = false;
  bool resume = false;
  // Google Benchmark's, by its names.
  std::string filter = ".";
  int repetitions = 1;
  bool list_tests = false;
  bool random_interleaving = false;
  std::string out;
  std::string format = "console";
  std::vector<std::string> context;
};

// Takes Google Benchmark's flags from `arguments`; one that is not given is looked for in the environment, as
// BENCHMARK_FILTER for --benchmark_filter. Those of no effect here are dropped with a word on standard error. Throws
// InputError.
void take_benchmark_flags(std::vector<std::string>& arguments, BenchFlags& flags);

// `item` is what is measured: case or kernel.
void add_bench_flags(CLI::App& app, BenchFlags& flags, const std::string& item);

// What the flags say of measuring; the rest of the options is for the caller to set.
MeasureOptions measure_options(const BenchFlags& flags);

// The indices of the items that a filter keeps, as Google Benchmark reads it: a leading - excludes. An item goes by
// several names, any of which may match.
std::vector<int> filtered(const std::vector<std::vector<std::string>>& names, std::string filter,
                          const std::string& item);

}  // namespace triphase
