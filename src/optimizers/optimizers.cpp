// SPDX-License-Identifier: Apache-2.0
#include "optimizers/optimizers.h"

#include <optional>
#include <utility>

#include "core/error.h"
#include "core/join.h"

namespace triphase {
namespace {

// Calls f with a default-constructed value of every alternative, in order.
template <class F, size_t... I>
void for_each_optimizer(F f, std::index_sequence<I...>) {
  (f(std::variant_alternative_t<I, Optimizer>{}), ...);
}

template <class F>
void for_each_optimizer(F f) {
  for_each_optimizer(f, std::make_index_sequence<std::variant_size_v<Optimizer>>{});
}

}  // namespace

std::vector<std::string> optimizer_names() {
  std::vector<std::string> names;
  for_each_optimizer([&](auto each) { names.emplace_back(each.kName); });
  return names;
}

Optimizer optimizer_named(std::string_view name) {
  std::optional<Optimizer> found;
  for_each_optimizer([&](auto candidate) {
    if (candidate.kName == name) found = candidate;
  });
  if (!found) throw InputError("optimizer", "one of " + join(optimizer_names()), "'" + std::string(name) + "'");
  return *found;
}

std::string_view name_of(const Optimizer& optimizer) {
  return std::visit([](const auto& o) { return o.kName; }, optimizer);
}

bool divides_by_gradient(const Optimizer& optimizer) {
  return std::visit([](const auto& o) { return o.kDividesByGradient; }, optimizer);
}

int state_count(const Optimizer& optimizer) {
  return std::visit([](const auto& o) { return o.kStates; }, optimizer);
}

std::vector<double> step_scalars(const Optimizer& optimizer, int64_t step) {
  return std::visit(
      [&](const auto& o) {
        const auto scalars = o.scalars(step);
        return std::vector<double>(scalars.begin(), scalars.end());
      },
      optimizer);
}

Optimizer with_learning_rate(Optimizer optimizer, double learning_rate) {
  std::visit([&](auto& o) { o.learning_rate = learning_rate; }, optimizer);
  return optimizer;
}

int64_t flop_per_parameter(const Optimizer& optimizer) {
  return std::visit(
      [](const auto& o) {
        Counted weight = 1.0;
        Counted state[kMostStates];
        Counted scalars[kMostScalars];
        std::ranges::fill(state, Counted(1.0));
        std::ranges::fill(scalars, Counted(1.0));
        const int64_t before = Counted::count();
        o.step(weight, Counted(1.0), state, scalars);
        return Counted::count() - before;
      },
      optimizer);
}

}  // namespace triphase
