// SPDX-License-Identifier: Apache-2.0
// A slowdown on purpose, to prove that what should notice one does: the build option
// -DTRIPHASE_PLANT=<kind of op, or *>:<phase>:<percent> makes every plan of this backend do so much more work after
// each group of that phase that holds such an op. It is real arithmetic, on the threads that compute, of an amount that
// is fixed at set-up from the group's own time; never a sleep.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "backends/backend.h"

namespace triphase {

struct Plant {
  std::string op;     // "matmul", or "*" for every kind
  std::string phase;  // "backward_weights"
  double percent = 0;
};

// What this build was asked for.
std::optional<Plant> built_in_plant();

bool slows(const Plant& plant, const StepProgram& program, const Group& group);

// Rounds of arithmetic a thread, so that planted_work(rounds, threads) takes about `seconds`.
int64_t planted_rounds(double seconds, int threads);

// Runs as many rounds in each of so many threads, and gives how many were run in all.
int64_t planted_work(int64_t rounds, int threads);

}  // namespace triphase
