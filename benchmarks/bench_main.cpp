// SPDX-License-Identifier: Apache-2.0
#include "bench_main.h"

#include <benchmark/benchmark.h>

#include <iostream>

#include "bin/signals.h"
#include "report/environment.h"

namespace triphase {
namespace {

// Google Benchmark has defaults of its own in the environment; what it is told here it takes from nowhere else.
void initialize_benchmark(std::string program, const BenchFlags& flags) {
  std::vector<std::string> told = {
      std::move(program),
      "--benchmark_out=",
      "--benchmark_list_tests=false",
      "--benchmark_min_warmup_time=0",
      "--benchmark_repetitions=" + std::to_string(flags.repetitions),
      "--benchmark_enable_random_interleaving=" + std::string(flags.random_interleaving ? "true" : "false")};
  std::vector<char*> pointers;
  for (std::string& one : told) pointers.push_back(one.data());
  int count = static_cast<int>(pointers.size());
  benchmark::Initialize(&count, pointers.data());
}

}  // namespace

int bench_main(int argc, char** argv, CLI::App& app, BenchFlags& flags, const std::function<int()>& run) {
  listen_for_signals();
  return guarded(app, [&] {
    std::vector<std::string> arguments(argv + 1, argv + argc);
    take_benchmark_flags(arguments, flags);
    parse_flags(app, arguments);
    initialize_benchmark(argv[0], flags);
    if (flags.threads == 0) flags.threads = usable_cpus();
    const int code = run();
    if (!std::cout.flush()) {
      throw InputError("standard output", "a file that can be written", "an error on writing");
    }
    return code;
  });
}

}  // namespace triphase
