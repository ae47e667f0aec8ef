// SPDX-License-Identifier: Apache-2.0
#include "measure/kernel_source.h"

#include <stdexcept>

namespace triphase {
namespace {

// So that a tick of the clock is a thousandth of a sample.
constexpr double kTicksPerSample = 1000;
constexpr int64_t kMostRuns = 1 << 20;

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
  const double enough_s = kTicksPerSample * plan.tick_s();
  while (plan_.run_groups(groups_, runs_) < enough_s) {
    runs_ *= 2;
    if (runs_ > kMostRuns) throw std::runtime_error("a million runs take no time that the clock can tell");
  }
}

void KernelSource::run_step(Marks, std::vector<double>& stamps_s) {
  const double begin_s = clock_();
  if (cache_ == Cache::kCold) plan_.evict();
  const double ready_s = clock_();
  const double run_s = plan_.run_groups(groups_, runs_) / static_cast<double>(runs_);
  stamps_s = {ready_s, ready_s + run_s};
  untimed_s_ += clock_() - begin_s - run_s;
}

}  // namespace triphase
