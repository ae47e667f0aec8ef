// SPDX-License-Identifier: Apache-2.0
#include "measure/kernel_source.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

namespace triphase {
namespace {

// So that reading the clock, to one tick, is a thousandth of a sample.
constexpr double kTicksPerSample = 1000;

// The least time that two readings of the clock are apart, where they are.
double tick_s(const Clock& clock) {
  constexpr int kSteps = 50;
  double least = std::numeric_limits<double>::infinity();
  double last = clock();
  for (int steps = 0; steps < kSteps;) {
    const double now = clock();
    if (now == last) continue;
    least = std::min(least, now - last);
    last = now;
    ++steps;
  }
  return least;
}

}  // namespace

KernelSource::KernelSource(const Kernel& kernel, Plan& plan, Cache cache, Clock clock)
    : plan_(plan), cache_(cache), clock_(std::move(clock)), segments_{{0, kernel.phase}} {
  const std::vector<Group>& groups = plan.groups();
  for (int g = 0; g < static_cast<int>(groups.size()); ++g) {
    const int first_op = groups[static_cast<size_t>(g)].ops.front();
    if (kernel.program.ops[static_cast<size_t>(first_op)].phase == kernel.phase) groups_.push_back(g);
  }
  std::vector<double> stamps_s;
  plan.run_step(Marks::kNone, stamps_s);
  if (cache == Cache::kCold) {
    if (!plan.evict()) throw std::logic_error("KernelSource: nothing can be evicted");
    return;
  }
  const double enough_s = kTicksPerSample * tick_s(clock_);
  while (run(runs_) < enough_s) runs_ *= 2;
}

double KernelSource::run(int64_t runs) {
  const double begin_s = clock_();
  for (int64_t i = 0; i < runs; ++i) {
    for (const int group : groups_) plan_.run_group(group);
  }
  return clock_() - begin_s;
}

void KernelSource::run_step(Marks, std::vector<double>& stamps_s) {
  const double begin_s = clock_();
  if (cache_ == Cache::kCold) plan_.evict();
  const double ready_s = clock_();
  const double run_s = run(runs_) / static_cast<double>(runs_);
  stamps_s = {ready_s, ready_s + run_s};
  untimed_s_ += clock_() - begin_s - run_s;
}

}  // namespace triphase
