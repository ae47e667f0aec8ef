// SPDX-License-Identifier: Apache-2.0
// triphase_steps: times whole training steps, phase by phase. Google Benchmark selects and repeats the cases, one
// registered benchmark each, and its flags work on case names. What it would lose this file keeps: it sums manual
// times, writes one run a benchmark, truncates its output on opening and can print bare NaN, so samples, rows and
// --benchmark_out are handled here, in its own schema.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <iostream>

#include "bin/signals.h"
#include "report/environment.h"
#include "step_run.h"

namespace triphase {
namespace {

// Google Benchmark asks for a reporter; rows go their own way, so that this one is silent.
class SilentReporter : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>&) override {}
};

int run(Flags& flags, const BenchmarkFlags& benchmark_flags) {
  if (flags.selection.suite.empty() && flags.selection.models.empty()) {
    throw InputError("triphase_steps", "--suite=NAME or --model=NAME", "neither; --suite=quick is a start");
  }
  if (flags.threads == 0) flags.threads = usable_cpus();
  StepRun run(flags, select_cases(flags.selection, flags.threads, flags.time_per_case_s));
  const std::vector<int> selected = filtered(run.cases(), benchmark_flags.filter);
  if (selected.empty())
    throw InputError("--benchmark_filter", "a pattern that matches a case", "'" + benchmark_flags.filter + "'");
  run.select(selected, benchmark_flags.repetitions);
  if (benchmark_flags.list) {
    for (const int i : selected) std::cout << run.cases()[static_cast<size_t>(i)].id.name() << "\n";
    return 0;
  }
  if (flags.dry_run) {
    run.dry_run();
    return 0;
  }
  run.start();
  for (const int i : selected) {
    benchmark::RegisterBenchmark(run.cases()[static_cast<size_t>(i)].id.name().c_str(),
                                 [&run, i](benchmark::State& state) {
                                   const double median_s = run.run_case(i);
                                   for (auto _ : state) state.SetIterationTime(median_s);
                                 })
        ->Iterations(1)
        ->UseManualTime();
  }
  SilentReporter reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter, "all");  // that is, of the selected
  return run.finish();
}

}  // namespace
}  // namespace triphase

int main(int argc, char** argv) {
  using namespace triphase;
  listen_for_signals();
  CLI::App app("Times whole training steps of neural networks, phase by phase and layer by layer.", "triphase_steps");
  return guarded(app, [&] {
    std::vector<std::string> arguments(argv + 1, argv + argc);
    Flags flags = take_benchmark_flags(arguments);
    const BenchmarkFlags benchmark_flags = read_benchmark_flags(arguments);
    add_flags(app, flags);
    std::vector<char*> for_benchmark = {argv[0]};
    std::vector<std::string> own;
    for (std::string& argument : arguments) {
      if (argument.starts_with("--benchmark_")) {
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
    const int code = run(flags, benchmark_flags);
    if (!std::cout.flush()) {
      throw InputError("standard output", "a file that can be written", "an error on writing");
    }
    return code;
  });
}
