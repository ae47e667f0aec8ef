// SPDX-License-Identifier: Apache-2.0
// The list of optimizers. Each is one struct whose step(), written once for any scalar type, serves every backend, the
// float64 reference and the counting scalar.
#pragma once

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <tuple>
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

// What any of them needs: state tensors a parameter, and scalars a step.
inline constexpr size_t kMostStates = []<class... O>(std::variant<O...>*) {
  return std::max({static_cast<size_t>(O::kStates)...});
}(static_cast<Optimizer*>(nullptr));
inline constexpr size_t kMostScalars = []<class... O>(std::variant<O...>*) {
  return std::max({std::tuple_size_v<decltype(O().scalars(1))>...});
}(static_cast<Optimizer*>(nullptr));

// In the order of the list.
std::vector<std::string> optimizer_names();

// The optimizer of that name with its default settings. Throws InputError that lists the names.
Optimizer optimizer_named(std::string_view name);
std::string_view name_of(const Optimizer& optimizer);

// Whether it divides by the gradient's size, so that a step moves each parameter by about the learning rate.
bool divides_by_gradient(const Optimizer& optimizer);

// State tensors a parameter has beside itself.
int state_count(const Optimizer& optimizer);

// The scalars of step `step` (from 1), the same for every parameter.
std::vector<double> step_scalars(const Optimizer& optimizer, int64_t step);
Optimizer with_learning_rate(Optimizer optimizer, double learning_rate);

// FLOP of one parameter's update, counted by running the optimizer's own step on the counting scalar.
int64_t flop_per_parameter(const Optimizer& optimizer);

}  // namespace triphase
