// SPDX-License-Identifier: Apache-2.0
// What the mains of the benchmark binaries share.
#pragma once

#include <functional>

#include "bench_flags.h"

namespace triphase {

// Parses the flags into `flags` (those that `app` knows, and Google Benchmark's), then calls `run`. Gives the exit
// code.
int bench_main(int argc, char** argv, CLI::App& app, BenchFlags& flags, const std::function<int()>& run);

}  // namespace triphase
