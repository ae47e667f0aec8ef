// SPDX-License-Identifier: Apache-2.0
// What every backend is held to.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <stdexcept>
#include <vector>

#include "backends/reference/reference.h"
#include "core/narrow.h"
#include "measure/verify.h"
#include "networks.h"
#include "program/initial.h"
#include "program/precision.h"

namespace triphase {

inline std::unique_ptr<Plan> compiled(Backend& backend, const StepProgram& program,
                                      std::optional<size_t> formulation = {}) {
  auto result = backend.compile(program, {.threads = 2, .formulation = formulation});
  if (const auto* why = std::get_if<Unsupported>(&result)) throw std::runtime_error(why->reason);
  return std::move(std::get<std::unique_ptr<Plan>>(result));
}

inline std::vector<double> losses(Plan& plan, const StepProgram& program, int steps) {
  std::vector<double> values;
  std::vector<double> stamps;
  for (int i = 0; i < steps; ++i) {
    plan.run_step(Marks::kNone, stamps);
    values.push_back(plan.read(program.loss, 0));
  }
  return values;
}

inline void expect_verified(Backend& backend, const NamedNetwork& named, Precision precision = Precision::kF32) {
  for (const int64_t batch : {2, 5, 16}) {
    for (const std::string& optimizer : optimizer_names()) {
      if (batch != 5 && optimizer != "sgd") continue;
      if (precision != Precision::kF32 && (batch != 5 || (optimizer != "sgd" && optimizer != "adam"))) continue;
      const StepProgram program =
          with_precision(lower(network_from(named.json), batch, optimizer_named(optimizer)), precision);
      const auto plan = compiled(backend, program);
      plan->allocate(3);
      const Verification result = verify(program, *plan, VerifyMode::kFull, 3);
      EXPECT_EQ(result.failure, "") << named.name << " " << optimizer << " batch " << batch << " "
                                    << to_string(precision);
      EXPECT_LE(result.max_error_over_bound, 1);
      EXPECT_EQ(result.ops_unchecked, 0);
      EXPECT_EQ(result.ops_checked, static_cast<int>(program.ops.size()));
    }
  }
}

// Of a loss, relative. In less than f32 every result on the way to it may be off by a rounding that the reference does
// not make, or makes elsewhere, and a mean square doubles that; the steps of the test are too short to add to it.
inline double tolerance(const StepProgram& program) {
  if (program.precision == Precision::kF32) return 2e-5;
  const double rounding = program.precision == Precision::kTF32 ? 0x1p-9 : unit_roundoff(dtype_of(program.precision));
  const auto forward = [](const Op& op) { return op.phase == Phase::kForward; };
  return 2 * rounding * static_cast<double>(std::ranges::count_if(program.ops, forward));
}

// A GPU's libraries may add in any order, so that its steps do not repeat exactly.
inline void expect_losses_of_the_reference(Backend& backend, const NamedNetwork& named,
                                           Precision precision = Precision::kF32, bool repeats_exactly = true) {
  const auto reference = make_reference_backend();
  for (const std::string& optimizer : optimizer_names()) {
    // The others divide by the gradient's size: a small one's rounding may turn a whole step.
    if (precision != Precision::kF32 && optimizer != "sgd") continue;
    const StepProgram program = with_precision(
        lower(network_from(named.json), 4, with_learning_rate(optimizer_named(optimizer), 1e-3)), precision);
    const auto plan = compiled(backend, program);
    const auto exact = compiled(*reference, program);
    plan->allocate(3);
    exact->allocate(3);
    const std::vector<double> found = losses(*plan, program, 10);
    const std::vector<double> expected = losses(*exact, program, 10);
    for (size_t i = 0; i < found.size(); ++i) {
      EXPECT_NEAR(found[i], expected[i], tolerance(program) * std::abs(expected[i]))
          << named.name << " " << optimizer << " " << i;
    }
    plan->restore();
    const std::vector<double> again = losses(*plan, program, 10);
    for (size_t i = 0; i < found.size(); ++i) {
      const double allowed = repeats_exactly ? 0 : tolerance(program) * std::abs(found[i]);
      EXPECT_NEAR(again[i], found[i], allowed) << "restore() begins anew";
    }
  }
}

// Whoever shares memory: what a group reads is what was last written there.
inline void expect_operands_are_kept(const StepProgram& program, const Plan& plan) {
  std::vector<TensorId> holder;  // by byte
  const auto write = [&](TensorId id) {
    const Extent extent = plan.extent(id);
    holder.resize(std::max(holder.size(), static_cast<size_t>(extent.begin + extent.bytes)), kNoTensor);
    std::fill_n(holder.begin() + extent.begin, extent.bytes, id);
  };
  for (TensorId id = 0; id < static_cast<TensorId>(program.tensors.size()); ++id) {
    if (program.tensor(id).producer < 0) write(id);
  }
  // The tensor whose bytes a view shows.
  const auto written = [&](TensorId id) {
    const TensorId storage = storage_of(program, id);
    return plan.extent(id) == plan.extent(storage) ? storage : id;
  };
  for (const Group& group : plan.groups()) {
    const auto within = [&](int op) { return std::ranges::count(group.ops, op) > 0; };
    for (const int op : group.ops) {
      for (const TensorId input : program.ops[static_cast<size_t>(op)].inputs) {
        if (within(program.tensor(input).producer)) continue;
        const Extent extent = plan.extent(input);
        ASSERT_GT(extent.bytes, 0) << program.tensor(input).name;
        ASSERT_LE(extent.begin + extent.bytes, static_cast<int64_t>(holder.size())) << program.tensor(input).name;
        const auto begin = holder.begin() + extent.begin;
        EXPECT_EQ(std::count(begin, begin + extent.bytes, written(input)), extent.bytes) << program.tensor(input).name;
      }
    }
    for (const int op : group.ops) {
      for (const TensorId output : program.ops[static_cast<size_t>(op)].outputs) {
        if (written(output) == output) write(output);
      }
    }
  }
  for (TensorId id = 0; id < static_cast<TensorId>(program.tensors.size()); ++id) {  // for the next step
    const Tensor& given = program.tensor(id);
    const Extent extent = plan.extent(id);
    if (given.producer >= 0 || extent.bytes == 0) continue;
    const TensorId last = given.next == kNoTensor ? id : given.next;
    const auto begin = holder.begin() + extent.begin;
    EXPECT_EQ(std::count(begin, begin + extent.bytes, last), extent.bytes) << given.name;
  }
}

// After steps, what layers read is the new parameter, rounded, and some of it has moved.
inline void expect_copies_follow(Backend& backend, const NamedNetwork& named, Precision precision) {
  const StepProgram program = with_precision(lower(network_from(named.json), 4, Adam{}), precision);
  const auto plan = compiled(backend, program);
  plan->allocate(3);
  losses(*plan, program, 3);
  int moved = 0;
  for (TensorId id = 0; id < static_cast<TensorId>(program.tensors.size()); ++id) {
    const Tensor& copy = program.tensor(id);
    if (copy.master == kNoTensor) continue;
    const InitialValues initial(program, id, 3);
    for (int64_t i = 0; i < element_count(copy.type.shape); ++i) {
      EXPECT_EQ(plan->read(id, i), rounded(plan->read(copy.master, i), copy.type.dtype)) << copy.name << " " << i;
      moved += plan->read(id, i) != rounded(initial(i), copy.type.dtype);
    }
  }
  EXPECT_GT(moved, 0);
}

}  // namespace triphase
