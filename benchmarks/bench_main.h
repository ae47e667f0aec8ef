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
int bench_main(int argc, char** argv, CLI::App& app, BenchFlags& flags,
               const std::function<int(const BenchmarkFlags&)>& run);

// Runs each item as Google Benchmark's flags say; `run(i)` measures item i and gives its median time, in seconds.
void run_benchmarks(const std::vector<std::pair<int, std::string>>& items, const std::function<double(int)>& run);

}  // namespace triphase
