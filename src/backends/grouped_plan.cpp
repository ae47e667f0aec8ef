// SPDX-License-Identifier: Apache-2.0
#include "backends/grouped_plan.h"

#include "core/clock.h"

namespace triphase {

void GroupedPlan::add_group(Group group, std::function<void()> run) {
  const Op& op = program_.ops[static_cast<size_t>(group.ops.front())];
  const Phase of_pass = is_backward(op.phase) ? Phase::kBackwardData : op.phase;
  const std::array<Segment, kKindsOfMarks> by_marks = {
      {{-1, Phase::kForward}, {-1, of_pass}, {-1, op.phase}, {op.layer, op.phase}}};
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

void GroupedPlan::run_step(Marks marks, std::vector<double>& stamps_s) {
  const Marking& stamped = marking(marks);
  stamps_s.clear();
  stamps_s.reserve(stamped.segments.size() + 1);
  next_step();
  stamps_s.push_back(now_s());
  for (size_t g = 0; g < runs_.size(); ++g) {
    runs_[g]();
    if (stamped.stamp_after[g]) stamps_s.push_back(now_s());
  }
  stamps_s.push_back(now_s());
}

void GroupedPlan::run_observed(const std::function<void(int)>& before, const std::function<void(int)>& after) {
  next_step();
  for (int g = 0; g < static_cast<int>(runs_.size()); ++g) {
    before(g);
    run(g);
    after(g);
  }
}

double GroupedPlan::run_groups(std::span<const int> groups, int64_t runs) {
  const double begin_s = now_s();
  for (int64_t i = 0; i < runs; ++i) {
    for (const int group : groups) run(group);
  }
  return now_s() - begin_s;
}

double GroupedPlan::tick_s() const { return clock_tick_s(); }

}  // namespace triphase
