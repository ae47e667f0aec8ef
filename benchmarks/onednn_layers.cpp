// SPDX-License-Identifier: Apache-2.0
// onednn_layers: times oneDNN's own call for every product and convolution of a network, each alone and again and
// again, so that caches are hot and nothing else is in them. A peer of triphase_steps: what a layer costs there beyond
// this is the price of being part of a step. Google Benchmark's own rows, samples by --benchmark_repetitions.
#include <benchmark/benchmark.h>
#include <omp.h>

#include "backends/onednn/kernels.h"
#include "backends/onednn/library_call.h"
#include "bin/cases.h"
#include "bin/cli.h"
#include "report/environment.h"
#include "report/format.h"

namespace triphase {
namespace {

struct Flags {
  Selection selection;
  int threads = 0;
  std::string max_memory;
};

void register_layers(const Case& item, int64_t max_memory_bytes) {
  const StepProgram& program = *item.program;
  for (const Op& op : program.ops) {
    const auto call = library_call(program, op);
    if (!call) continue;
    CaseId id = item.id;
    id.backend = "onednn-alone";
    const std::string name = id.name() + "/layer:" + program.layers[static_cast<size_t>(op.layer)].name + "/" +
                             std::string(to_string(op.phase));
    benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
      if (call->memory_bytes > max_memory_bytes) {
        return state.SkipWithError(("needs " + si(static_cast<double>(call->memory_bytes)) + "B of memory").c_str());
      }
      const std::function<void()> run = call->make();
      for (auto _ : state) run();
      state.SetLabel(call->implementation);
    })->UseRealTime();
  }
}

int run(Flags& flags) {
  if (flags.selection.empty()) {
    throw InputError("flags", "--suite=NAME or --model=NAME", "neither; --model=OneNet is a start");
  }
  if (flags.threads == 0) flags.threads = usable_cpus();
  const std::vector<Case> cases = select_cases(flags.selection, {"onednn"}, flags.threads, 1);
  omp_set_num_threads(flags.threads);
  flush_denormals();
  for (const Case& item : cases) register_layers(item, memory_to_use(flags.max_memory));
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace
}  // namespace triphase

int main(int argc, char** argv) {
  using namespace triphase;
  CLI::App app("Times oneDNN's own call for every product and convolution of a network, each alone and hot.",
               "onednn_layers");
  Flags flags;
  app.add_option("--suite", flags.selection.suite, "A suite of benchmarks/suites or a .json file");
  app.add_option("--model", flags.selection.models, "A model of benchmarks/models or a .json file; may be repeated");
  app.add_option("--batch", flags.selection.batch, "Examples a step: 1,2,4 or 1:1024:*2; in place of a suite's own");
  app.add_option("--threads", flags.threads, "Threads that compute; by default every processor that may be used")
      ->check(CLI::Range(1, 4096));
  app.add_option("--max_memory", flags.max_memory,
                 "Skip layers that need more, such as 8GiB; by default nine tenths of what is available");
  app.footer("Google Benchmark's flags work as ever: --benchmark_filter, --benchmark_repetitions, --benchmark_out ...");
  return guarded(app, [&] {
    benchmark::Initialize(&argc, argv);  // takes its own flags away
    parse_flags(app, argc, argv);
    return run(flags);
  });
}
