// SPDX-License-Identifier: Apache-2.0
// Which training steps are asked for: networks, batches, optimizers and dtypes, crossed, by flags or by a suite. What
// runs them is no part of it.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "model/suite.h"

namespace triphase {

struct Selection {
  std::string suite;
  std::vector<std::string> models;
  // Where given, in place of a suite's own; of models, one example, SGD and f32 where not.
  std::optional<std::string> batch;
  std::vector<std::string> optimizers;
  std::vector<std::string> dtypes;
  std::optional<double> loss_scale;  // of steps in f16; the usual one where absent

  bool empty() const { return suite.empty() && models.empty(); }
  // Whether a list is asked for, even if one step comes of it: a suite, or several values of a flag.
  bool is_list() const;
};

// Calls `body` with each step that is selected, in order, as a program in its precision; one that comes twice comes
// once. Throws InputError.
void for_each_program(const Selection& selection,
                      const std::function<void(const CaseSpec&, const Network&, StepProgram)>& body);

}  // namespace triphase
