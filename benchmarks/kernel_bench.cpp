// SPDX-License-Identifier: Apache-2.0
// triphase_kernels: times each distinct kernel of networks' training steps alone, with hot and with cold caches. It is
// made to be run over and over: a few seconds for the suite that it runs by default.
//
// What a kernel is: the ops that a backend runs as one call; see program/kernel.h. What hot and cold are:
// measure/kernel_source.h. A cold row says whether it is proven to have been cold: no faster than its operands can come
// from memory. What is not measured: what a step does between kernels, and what one kernel leaves in the caches for the
// next; triphase_steps does that.
#include "bench_main.h"
#include "kernel_run.h"

namespace triphase {
namespace {

int run(KernelFlags& flags) {
  if (flags.selection.empty()) flags.selection.suite = "kernels";
  KernelRun run(
      flags, distinct_kernels(select_cases(flags.selection, flags.backends, flags.threads, flags.time_per_kernel_s)));
  return run.run();
}

}  // namespace
}  // namespace triphase

int main(int argc, char** argv) {
  using namespace triphase;
  CLI::App app("Times each kernel of neural networks' training steps alone, with hot and with cold caches.",
               "triphase_kernels");
  KernelFlags flags;
  add_flags(app, flags);
  return bench_main(argc, argv, app, flags, [&] { return run(flags); });
}
