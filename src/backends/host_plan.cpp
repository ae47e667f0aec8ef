// SPDX-License-Identifier: Apache-2.0
#include "backends/host_plan.h"

#include "core/clock.h"

namespace triphase {

void HostPlan::add_group(Group group, std::function<void()> run) {
  const Op& op = program_.ops[static_cast<size_t>(group.ops.front())];
  const Segment by_marks[] = {{-1, Phase::kForward}, {-1, op.phase}, {op.layer, op.phase}};
  for (size_t level = 0; level < markings_.size(); ++level) {
    Marking& marking = markings_[level];
    if (marking.segments.empty() || marking.segments.back() != by_marks[level]) {
      if (!marking.stamp_after.empty()) marking.stamp_after.back() = 1;
      marking.segments.push_back(by_marks[level]);
    }
    marking.stamp_after.push_back(0);
  }
  groups_.push_back(std::move(group));
  runs_.push_back(std::move(run));
}

std::span<const Segment> HostPlan::segments(Marks marks) const {
  return markings_[static_cast<size_t>(marks)].segments;
}

void HostPlan::run_step(Marks marks, std::vector<double>& stamps_s) {
  const Marking& marking = markings_[static_cast<size_t>(marks)];
  stamps_s.clear();
  stamps_s.reserve(marking.segments.size() + 1);
  begin_step(step_scalars(optimizer_, ++step_));
  stamps_s.push_back(now_s());
  for (size_t g = 0; g < runs_.size(); ++g) {
    runs_[g]();
    if (marking.stamp_after[g]) stamps_s.push_back(now_s());
  }
  stamps_s.push_back(now_s());
}

void HostPlan::run_observed(const std::function<void(int)>& before, const std::function<void(int)>& after) {
  begin_step(step_scalars(optimizer_, ++step_));
  for (size_t g = 0; g < runs_.size(); ++g) {
    before(static_cast<int>(g));
    runs_[g]();
    after(static_cast<int>(g));
  }
}

}  // namespace triphase
