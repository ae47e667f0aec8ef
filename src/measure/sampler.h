// SPDX-License-Identifier: Apache-2.0
// Measures whole training steps. What is measured: the stamps that a StepSource takes in real steps, one after the
// other, so all phases of a sample are paired and in the cache state of training. What is not: setup, time outside the
// stamps, and what changes only from one process to the next.
//
// Steps with phase marks (most), layer marks and no marks alternate in a balanced pattern, so that drift reaches all
// alike. Where marks cost time, most are marked at passes instead, twice within a step, and give what is compared
// between passes: the backward has many changes of phase, the forward none. Then steps with phase marks are some more.
// Leading samples are dropped by a change-point rule on the step times. Sampling ends when the 95 % intervals of
// the medians are narrow enough at two looks in a row, and it looks only when the sample count has grown by 1.3: every
// look is a chance to stop on a fluke. All time is the source's own, so a simulated clock is measured exactly. Where a
// step is a single interval whatever the marks, all steps are alike and are taken as steps with phase marks.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backends/backend.h"

namespace triphase {

struct SampleOptions {
  double budget_s = 5;                // of stepping, warm-up and what the source leaves untimed included
  double relative_half_width = 0.01;  // of the medians' 95 % intervals: step, forward, backward and backward / forward
  double minimum_s = 0.1;             // of stepping, before precision may end it: slower noise would go unseen
  size_t min_samples = 3;             // of step_s, even beyond the budget
  size_t more_samples = 0;            // than those, where a median of them has no interval: it is looked for once
  size_t min_layered_samples = 1;     // steps with layer marks, likewise, and with phase marks if they are apart
  size_t max_samples = 10000;         // of step_s
};

struct Samples {
  // From steps with phase marks; with pass marks where marks cost time. Sample i of every series is from the same step;
  // a pass that is absent has zeros.
  std::vector<double> step_s;
  std::array<std::vector<double>, kAllPasses.size()> pass_s;  // by Pass: the sum of its intervals in each step

  // From steps with phase marks: those of step_s, but where marks cost time.
  std::array<std::vector<double>, kAllPhases.size()> phase_s;  // by Phase, likewise

  std::span<const double> of(Pass pass) const { return pass_s[static_cast<size_t>(pass)]; }
  std::span<const double> of(Phase phase) const { return phase_s[static_cast<size_t>(phase)]; }

  // From steps with layer marks, in the order of first appearance; sample i of every series is from the same step.
  struct Layer {
    int layer = -1;
    Phase phase = Phase::kForward;
    std::vector<double> s;
  };
  std::vector<Layer> layers;
  std::vector<double> layered_step_s;

  // From steps without marks, each with the index in step_s of the step right before it or right after it, in turns.
  std::vector<double> unmarked_step_s;
  std::vector<size_t> unmarked_neighbour;

  size_t warmup_steps = 0;  // steps of all kinds that were run and dropped
  // Whether step_s shows no change after the warm-up, see find_steady_state; absent where there is too little to tell.
  std::optional<bool> steady;
  std::string stop_reason;  // interval, budget, max_samples or interrupted
  double measured_s = 0;    // sum of all steps, warm-up included
};

// Called after every step with what there is so far, nothing dropped yet; false ends the sampling. May be empty.
using Progress = std::function<bool(const Samples& so_far)>;

// Passes on what the source throws.
Samples sample(StepSource& source, const SampleOptions& options, const Progress& progress);

// The backward and the update of each step of step_s.
std::vector<double> backward_and_update_s(const Samples& samples);

// Time of a step of step_s / of one without marks: the median over neighbouring pairs. Absent without pairs.
std::optional<double> marking_overhead(const Samples& samples);
// Time of a step with layer marks / of one without: the medians of all. Absent without either.
std::optional<double> layer_marking_overhead(const Samples& samples);

}  // namespace triphase
