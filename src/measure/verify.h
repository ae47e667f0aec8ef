// SPDX-License-Identifier: Apache-2.0
// Checks that a plan computes what its program says, before any time is believed: every op's output against float64, on
// the very plan that is timed, and that the loss falls over real steps where the program has one.
#pragma once

#include <string>

#include "backends/backend.h"

namespace triphase {

enum class VerifyMode {
  kOff,
  kSampled,  // of large outputs a seeded sample of elements, the first and the last among them
  kFull,     // every element
};

struct Verification {
  int ops_checked = 0;
  int ops_unchecked = 0;  // nothing of theirs is ever in memory, and no later op of their group either
  int64_t elements_checked = 0;
  double max_error_over_bound = 0;
  double first_loss = 0;
  double last_loss = 0;  // after the steps of the loss check
  std::string failure;   // of the first element or loss that is wrong; empty where all is well

  bool ok() const { return failure.empty(); }
};

inline constexpr int64_t kMostReads = 8'000'000;

// `most_reads`: how many elements the recomputing of one output's sample may read, if it is to be more than a few dozen
// elements. Runs a few steps of an allocated plan; leaves it restored. Gradient elements of the first step set the
// learning rate of the loss check: a first-order prediction of a fall by 2 % a step.
Verification verify(const StepProgram& program, Plan& plan, VerifyMode mode, uint64_t seed,
                    int64_t most_reads = kMostReads);

}  // namespace triphase
