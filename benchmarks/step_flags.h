// SPDX-License-Identifier: Apache-2.0
// The flags of triphase_steps beside those that it shares.
#pragma once

#include "bench_flags.h"

namespace triphase {

struct StepFlags : BenchFlags {
  double time_per_case_s = 4;
  double interval = 0.01;
  std::string ceilings = "auto";
  bool explain = false;
};

inline void add_flags(CLI::App& app, StepFlags& flags) {
  add_bench_flags(app, flags, "case");
  app.add_option("--time_per_case", flags.time_per_case_s,
                 "Seconds of stepping a case, beyond which only what is missing of seven steps is run")
      ->check(number_between(0.001, 1e6))
      ->capture_default_str();
  app.add_option(
         "--interval,--precision", flags.interval,
         "Stop earlier once the 95 % intervals of the medians reach no further than this fraction on either side")
      ->check(number_between(0.0001, 1.0))
      ->capture_default_str();
  app.add_option(
         "--ceilings", flags.ceilings,
         "What triphase_ceilings measured, to set times against: auto takes this machine's, off none, else a file")
      ->capture_default_str();
  app.add_flag("--explain", flags.explain,
               "Print for each case every layer and phase with its bound and its distance from it, biggest loss first");
}

}  // namespace triphase
