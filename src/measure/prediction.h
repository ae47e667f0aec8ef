// SPDX-License-Identifier: Apache-2.0
// What the time of each layer and phase should be, from its FLOP, its bytes, where those bytes lie, and the machine's
// ceilings. Two answers:
//
// - The roofline: no call is faster than arithmetic at the peak rate, bytes at the bandwidth of where they come from,
//   and its latency, and none runs beside another. Nothing is fitted; which of the three is the longest is what bounds
//   it.
// - The prediction: a sum of such terms with one factor each, by family of kernels, but no less than the roofline. The
//   factors are fitted to steps of networks made for it (calibrate()), and never to what is predicted.
//
// Where bytes lie follows from the order of the step, and from which operands share memory: bytes that were touched
// last d bytes ago are found in a level that holds d bytes (Mattson et al., Evaluation techniques for storage
// hierarchies, 1970).
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "backends/backend.h"
#include "measure/ceilings.h"

namespace triphase {

// Kernels that are alike in what limits them: "linear forward", "convolution backward_weights", "update" ... Grouped
// convolutions are families of their own, of which no network that factors are fitted to has any.
std::string family_of(const StepProgram& program, const Group& group);

// What a group asks of the machine, in seconds at the machine's ceilings.
struct Demand {
  int layer = 0;
  Phase phase = Phase::kForward;
  std::string family;
  double flop_s = 0;                      // arithmetic at the peak rate
  std::map<std::string, double> level_s;  // bytes by the level that they come from
  double latency_s = 0;                   // of the library's call, or of what an own loop or kernel waits for
  std::vector<double> terms_s;            // what the prediction weighs, in an order that the family fixes
};

// One a group, in their order; `extents` is where each tensor lies. Absent for a machine whose ceilings were not
// measured, of the program's precision too.
std::optional<std::vector<Demand>> demands(const StepProgram& program, const std::vector<Group>& groups,
                                           const std::vector<Extent>& extents, const Machine& machine);

// What limits a stretch of work at the ceilings, and the time that it cannot beat.
struct Roofline {
  double s = 0;  // the sum, over its calls, of the longest of arithmetic, bytes and latency
  // compute, L1, L2, L3, memory or latency: what bounds the calls that take most of it. Of a call that bytes bound, the
  // level that takes most of their time.
  std::string bound;
};

Roofline roofline(const std::vector<const Demand*>& demands);

// By family, a factor for each of its terms.
using Factors = std::map<std::string, std::vector<double>>;

// Absent where a family has no factors, nor the same product in its other formulation.
std::optional<double> predicted_s(const std::vector<const Demand*>& demands, const Factors& factors);

// A stretch of work that was measured, to fit factors to.
struct Observation {
  std::vector<Demand> demands;
  double measured_s = 0;
  double weight = 1;  // of its relative error
};

// The factors, none negative, of the least weighted sum of relative errors |predicted / measured - 1|.
Factors calibrate(const std::vector<Observation>& observations);

}  // namespace triphase
