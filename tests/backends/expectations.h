// SPDX-License-Identifier: Apache-2.0
// What every backend is held to.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <optional>
#include <stdexcept>
#include <vector>

#include "backends/reference/reference.h"
#include "measure/verify.h"
#include "networks.h"

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

inline void expect_verified(Backend& backend, const NamedNetwork& named) {
  for (const int64_t batch : {2, 5, 16}) {
    for (const std::string& optimizer : optimizer_names()) {
      if (batch != 5 && optimizer != "sgd") continue;
      const StepProgram program = lower(network_from(named.json), batch, optimizer_named(optimizer));
      const auto plan = compiled(backend, program);
      plan->allocate(3);
      const Verification result = verify(program, *plan, VerifyMode::kFull, 3);
      EXPECT_EQ(result.failure, "") << named.name << " " << optimizer << " batch " << batch;
      EXPECT_LE(result.max_error_over_bound, 1);
      EXPECT_EQ(result.ops_unchecked, 0);
      EXPECT_EQ(result.ops_checked, static_cast<int>(program.ops.size()));
    }
  }
}

inline void expect_losses_of_the_reference(Backend& backend, const NamedNetwork& named) {
  const auto reference = make_reference_backend();
  for (const std::string& optimizer : optimizer_names()) {
    const StepProgram program =
        lower(network_from(named.json), 4, with_learning_rate(optimizer_named(optimizer), 1e-3));
    const auto plan = compiled(backend, program);
    const auto exact = compiled(*reference, program);
    plan->allocate(3);
    exact->allocate(3);
    const std::vector<double> found = losses(*plan, program, 10);
    const std::vector<double> expected = losses(*exact, program, 10);
    for (size_t i = 0; i < found.size(); ++i) {
      EXPECT_NEAR(found[i], expected[i], 2e-5 * std::abs(expected[i])) << named.name << " " << optimizer << " " << i;
    }
    plan->restore();
    EXPECT_EQ(losses(*plan, program, 10), found) << "restore() begins anew";
  }
}

}  // namespace triphase
