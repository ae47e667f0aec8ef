// SPDX-License-Identifier: Apache-2.0
// The part of a Plan that every backend shares: a list of groups to call in order, and where the marks ask for stamps
// between them. Here a group's work is done when its call returns, and stamps are those of the host's clock; a backend
// whose calls return before overrides what runs and times them.
#pragma once

#include <array>
#include <functional>
#include <string>
#include <vector>

#include "backends/backend.h"

namespace triphase {

class GroupedPlan : public Plan {
 public:
  std::span<const Segment> segments(Marks marks) const override { return marking(marks).segments; }
  void run_step(Marks marks, std::vector<double>& stamps_s) override;
  void run_observed(const std::function<void(int)>& before, const std::function<void(int)>& after) override;
  double run_groups(std::span<const int> groups, int64_t runs) override;
  double tick_s() const override;
  const std::vector<Group>& groups() const override { return groups_; }
  void set_learning_rate(double learning_rate) override {
    optimizer_ = with_learning_rate(program_.optimizer, learning_rate);
  }

 protected:
  // One level of marks: the segments of a step, and where each group stops being in the same one as the next.
  struct Marking {
    std::vector<Segment> segments;
    std::vector<char> stamp_after;  // by group
  };

  explicit GroupedPlan(const StepProgram& program) : program_(program), optimizer_(program.optimizer) {}

  // Groups run in the order added.
  void add_group(Group group, std::function<void()> run);
  void set_implementation(size_t group, Implementation implementation) {
    groups_[group].implementation = std::move(implementation);
  }
  void add_traffic(size_t group, int64_t bytes) { groups_[group].traffic_bytes += bytes; }
  const Marking& marking(Marks marks) const { return markings_[static_cast<size_t>(marks)]; }
  void run(int group) { runs_[static_cast<size_t>(group)](); }
  // For a destructor whose groups hold what must go before its own members do.
  void drop_groups() { runs_.clear(); }
  // Goes on to the next step: its number, and its scalars by begin_step().
  void next_step() { begin_step(step_scalars(optimizer_, ++step_)); }
  // Stores the optimizer's scalars of the step that begins.
  virtual void begin_step(const std::vector<double>& scalars) = 0;
  void rewind() { step_ = 0; }

  const StepProgram& program_;

 private:
  std::vector<Group> groups_;
  std::vector<std::function<void()>> runs_;
  std::array<Marking, kKindsOfMarks> markings_;  // by Marks
  Optimizer optimizer_;
  int64_t step_ = 0;
};

}  // namespace triphase
