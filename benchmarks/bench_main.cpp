// SPDX-License-Identifier: Apache-2.0
#include "bench_main.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <iostream>

#include "bin/signals.h"
#include "report/environment.h"

namespace triphase {
namespace {

// Google Benchmark asks for a reporter; rows go their own way, so that this one is silent.
class SilentReporter : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>&) override {}
};

// Of Google Benchmark's flags those that say how it measures and prints, which it does not do here.
void note_of_no_effect(const std::string& argument) {
  for (const char* flag : {"min_time", "min_warmup_time", "time_unit", "report_aggregates_only",
                           "display_aggregates_only", "counters_tabular", "color", "perf_counters"}) {
    const std::string name = std::string("--benchmark_") + flag;
    if (argument == name || argument.starts_with(name + "=")) {
      std::cerr << name << " is of no effect here; --help lists the flags that are\n";
    }
  }
}

}  // namespace

int bench_main(int argc, char** argv, CLI::App& app, BenchFlags& flags,
               const std::function<int(const BenchmarkFlags&)>& run) {
  listen_for_signals();
  return guarded(app, [&] {
    std::vector<std::string> arguments(argv + 1, argv + argc);
    take_benchmark_flags(arguments, flags);
    const BenchmarkFlags benchmark_flags = read_benchmark_flags(arguments);
    std::vector<char*> for_benchmark = {argv[0]};
    std::vector<std::string> own;
    for (std::string& argument : arguments) {
      if (argument.starts_with("--benchmark_")) {
        note_of_no_effect(argument);
        for_benchmark.push_back(argument.data());
      } else {
        own.push_back(argument);
      }
    }
    std::ranges::reverse(own);  // as CLI11 wants them
    app.parse(own);
    int count = static_cast<int>(for_benchmark.size());
    benchmark::Initialize(&count, for_benchmark.data());
    if (count > 1) throw InputError(for_benchmark[1], "a flag of Google Benchmark with a valid value", "another");
    if (flags.threads == 0) flags.threads = usable_cpus();
    const int code = run(benchmark_flags);
    if (!std::cout.flush()) {
      throw InputError("standard output", "a file that can be written", "an error on writing");
    }
    return code;
  });
}

int run_selected(BenchRun& run, const std::string& noun, const BenchFlags& flags,
                 const BenchmarkFlags& benchmark_flags) {
  const std::vector<std::vector<std::string>> names = run.names();
  const std::vector<int> selected = filtered(names, benchmark_flags.filter, noun);
  run.select(selected, benchmark_flags.repetitions);
  if (benchmark_flags.list) {
    for (const int i : selected) std::cout << names[static_cast<size_t>(i)].back() << "\n";
    return 0;
  }
  if (flags.dry_run) {
    run.dry_run();
    return 0;
  }
  run.start();
  for (const int i : selected) {
    benchmark::RegisterBenchmark(names[static_cast<size_t>(i)].back().c_str(),
                                 [&run, i](benchmark::State& state) {
                                   const double median_s = run.run_item(i);
                                   for (auto _ : state) state.SetIterationTime(median_s);
                                 })
        ->Iterations(1)
        ->UseManualTime();
  }
  SilentReporter reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter, "all");  // that is, of the selected
  return run.finish();
}

}  // namespace triphase
