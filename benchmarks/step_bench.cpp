// SPDX-License-Identifier: Apache-2.0
// triphase_steps: times whole training steps, phase by phase.
#include "bench_main.h"
#include "step_run.h"

namespace triphase {
namespace {

int run(const StepFlags& flags) {
  if (flags.selection.empty()) {
    throw InputError("flags", "--suite=NAME or --model=NAME", "neither; --suite=quick is a start");
  }
  StepRun run(flags, select_cases(flags.selection, flags.backends, flags.threads, flags.time_per_case_s));
  return run.run();
}

}  // namespace
}  // namespace triphase

int main(int argc, char** argv) {
  using namespace triphase;
  CLI::App app("Times whole training steps of neural networks, phase by phase and layer by layer.", "triphase_steps");
  StepFlags flags;
  add_flags(app, flags);
  return bench_main(argc, argv, app, flags, [&] { return run(flags); });
}
