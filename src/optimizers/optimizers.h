// SPDX-License-Identifier: Apache-2.0
// The list of optimizers. Each is one struct whose step(), written once for any scalar type, serves every backend, the
// float64 reference and the counting scalar.
#pragma once

#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "core/counted.h"
#include "optimizers/adagrad.h"
#include "optimizers/adam.h"
#include "optimizers/adamw.h"
#include "optimizers/momentum.h"
#include "optimizers/nesterov.h"
#include "optimizers/rmsprop.h"
#include "optimizers/sgd.h"

namespace triphase {

using Optimizer = std::variant<Sgd, Momentum, Nesterov, AdaGrad, RmsProp, Adam, AdamW>;

// The optimizer of that name with its default settings. Throws InputError that lists the names.
Optimizer optimizer_named(std::string_view name);
std::string_view name_of(const Optimizer& optimizer);

// State tensors a parameter has beside itself.
int state_count(const Optimizer& optimizer);

// The scalars of step `step` (from 1), the same for every parameter.
std::vector<double> step_scalars(const Optimizer& optimizer, int64_t step);
Optimizer with_learning_rate(Optimizer optimizer, double learning_rate);

// FLOP of one parameter's update, counted by running the optimizer's own step on the counting scalar.
int64_t flop_per_parameter(const Optimizer& optimizer);

}  // namespace triphase
