// SPDX-License-Identifier: Apache-2.0
// triphase_steps: times whole training steps, phase by phase.
#include <iostream>

#include "bench_main.h"
#include "step_run.h"

namespace triphase {
namespace {

int run(const Flags& flags, const BenchmarkFlags& benchmark_flags) {
  if (flags.selection.suite.empty() && flags.selection.models.empty()) {
    throw InputError("triphase_steps", "--suite=NAME or --model=NAME", "neither; --suite=quick is a start");
  }
  StepRun run(flags, select_cases(flags.selection, flags.threads, flags.time_per_case_s));
  std::vector<std::vector<std::string>> names;
  for (const Case& item : run.cases()) names.push_back({item.id.name()});
  const std::vector<int> selected = filtered(names, benchmark_flags.filter, "case");
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
  std::vector<std::pair<int, std::string>> items;
  for (const int i : selected) items.emplace_back(i, run.cases()[static_cast<size_t>(i)].id.name());
  run_benchmarks(items, [&](int i) { return run.run_case(i); });
  return run.finish();
}

}  // namespace
}  // namespace triphase

int main(int argc, char** argv) {
  using namespace triphase;
  CLI::App app("Times whole training steps of neural networks, phase by phase and layer by layer.", "triphase_steps");
  Flags flags;
  add_flags(app, flags);
  return bench_main(argc, argv, app, flags, [&](const BenchmarkFlags& given) { return run(flags, given); });
}
