// SPDX-License-Identifier: Apache-2.0
#include "program/builder.h"

#include <algorithm>
#include <ranges>
#include <stdexcept>

namespace triphase {

Builder::Builder(int64_t batch, Optimizer optimizer) {
  program_.batch = batch;
  program_.optimizer = optimizer;
  const auto scalars = static_cast<int64_t>(step_scalars(optimizer, 1).size());
  program_.scalars = add_tensor("optimizer.scalars", {{scalars}, DType::kF32}, Role::kScalars, false);
}

TensorId Builder::input(const Shape& shape) {
  Shape batched = {program_.batch};
  batched.insert(batched.end(), shape.begin(), shape.end());
  element_count(batched);
  return program_.input = add_tensor("input", {batched, DType::kF32}, Role::kInput, false);
}

TensorId Builder::target() {
  if (program_.target == kNoTensor) {
    program_.target = add_tensor("target", {{program_.batch}, DType::kS32}, Role::kTarget, false);
  }
  return program_.target;
}

TensorId Builder::layer(const std::string& name, const std::string& kind, const std::string& owner, const Lower& lower,
                        std::span<const TensorId> inputs) {
  layer_ = static_cast<int>(program_.layers.size());
  owner_ = owner;
  program_.layers.push_back({name, kind});
  lowered_.push_back({layer_, lower(*this, inputs)});
  const bool input_gradient = std::ranges::any_of(inputs, [&](TensorId id) { return needs_gradient(id); });
  program_.layers[static_cast<size_t>(layer_)].first =
      !input_gradient && needs_gradient(lowered_.back().lowered.output);
  return lowered_.back().lowered.output;
}

StepProgram Builder::finish(const std::string& loss_kind, const Lower& loss, TensorId output) {
  program_.loss = layer("loss", loss_kind, "loss", loss, std::span(&output, 1));
  for (const LoweredLayer& item : lowered_ | std::views::reverse) {
    layer_ = item.layer;
    const TensorId y = item.lowered.output;
    if (!needs_gradient(y)) continue;
    if (y == program_.loss) {
      item.lowered.backward(kNoTensor);
    } else if (const TensorId dy = gradient_of(y); dy != kNoTensor) {
      item.lowered.backward(dy);
    }
  }
  append_updates();
  validate(program_);
  return std::move(program_);
}

TensorId Builder::parameter(const std::string& suffix, const Shape& shape, Init init) {
  const std::string name = owner_ + "." + suffix;
  if (const auto found = parameters_.find(name); found != parameters_.end()) {
    if (this->shape(found->second) != shape) {
      throw std::invalid_argument("expected shared weights of one shape, found " +
                                  to_string(this->shape(found->second)) + " and " + to_string(shape));
    }
    return found->second;
  }
  element_count(shape);  // refuses what overflows, while it is known which layer wants it
  const TensorId id = add_tensor(name, {shape, DType::kF32}, Role::kParameter, true);
  program_.tensor(id).init = init;
  parameters_[name] = id;
  parameter_layers_[id] = layer_;
  return id;
}

TensorId Builder::statistic(const std::string& suffix, const Shape& shape, double initial) {
  const std::string& layer = program_.layers[static_cast<size_t>(layer_)].name;
  const TensorId id = add_tensor(layer + "." + suffix, {shape, DType::kF32}, Role::kStatistic, false);
  program_.tensor(id).init = {Init::Kind::kConstant, initial};
  return id;
}

void Builder::replace_statistics(const OpKind& kind, std::vector<TensorId> inputs, std::vector<TensorId> replaced) {
  replacements_.push_back({layer_, kind, std::move(inputs), std::move(replaced)});
}

TensorId Builder::forward(const OpKind& kind, const std::vector<TensorId>& inputs) {
  return forward(kind, inputs, {""})[0];
}

std::vector<TensorId> Builder::forward(const OpKind& kind, const std::vector<TensorId>& inputs,
                                       const std::vector<std::string>& what) {
  std::vector<std::string> names;
  for (const std::string& suffix : what) {
    const std::string& layer = program_.layers[static_cast<size_t>(layer_)].name;
    names.push_back(unique(suffix.empty() ? layer : layer + "." + suffix));
  }
  return append(Phase::kForward, kind, inputs, names, Role::kValue);
}

void Builder::gradient(Phase phase, const OpKind& kind, const std::vector<TensorId>& inputs, std::vector<TensorId> of) {
  std::vector<std::string> names;
  for (const TensorId id : of) names.push_back(unique(program_.tensor(id).name + ".gradient"));
  const std::vector<TensorId> outputs = append(phase, kind, inputs, names, Role::kGradient);
  for (size_t i = 0; i < of.size(); ++i) pass_gradient(outputs[i], of[i]);
}

void Builder::pass_gradient(TensorId gradient, TensorId of) {
  const auto [slot, first] = gradients_.try_emplace(of, gradient);
  if (first) return;
  // The sum belongs to the layer whose tensor it is the gradient of.
  const Tensor& tensor = program_.tensor(of);
  const bool learnt = tensor.role == Role::kParameter;
  const int current = layer_;
  layer_ = learnt ? parameter_layers_[of] : program_.ops[static_cast<size_t>(tensor.producer)].layer;
  slot->second = append(learnt ? Phase::kBackwardWeights : Phase::kBackwardData, Add{}, {slot->second, gradient},
                        {unique(tensor.name + ".gradient.sum")}, Role::kGradient)[0];
  layer_ = current;
}

TensorId Builder::gradient_of(TensorId id) const {
  const auto found = gradients_.find(id);
  return found == gradients_.end() ? kNoTensor : found->second;
}

void Builder::append_updates() {
  for (const auto& [parameter, layer] : parameter_layers_) {
    const TensorId gradient = gradient_of(parameter);
    if (gradient == kNoTensor) continue;  // does not reach the loss
    layer_ = layer;
    std::vector<TensorId> replaced = {parameter};
    std::vector<std::string> names = {program_.tensor(parameter).name + ".next"};
    for (int i = 0; i < state_count(program_.optimizer); ++i) {
      const std::string name = program_.tensor(parameter).name + ".state" + std::to_string(i);
      replaced.push_back(add_tensor(name, program_.tensor(parameter).type, Role::kState, false));
      names.push_back(name + ".next");
    }
    std::vector<TensorId> inputs = {parameter, gradient, program_.scalars};
    inputs.insert(inputs.end(), replaced.begin() + 1, replaced.end());
    const auto next = append(Phase::kUpdate, Update{program_.optimizer}, inputs, names, Role::kParameter);
    for (size_t i = 0; i < next.size(); ++i) {
      program_.tensor(next[i]).role = program_.tensor(replaced[i]).role;
      program_.tensor(replaced[i]).next = next[i];
    }
  }
  for (const Replacement& item : replacements_) {
    layer_ = item.layer;
    std::vector<std::string> names;
    for (const TensorId id : item.replaced) names.push_back(program_.tensor(id).name + ".next");
    const auto next = append(Phase::kUpdate, item.kind, item.inputs, names, Role::kStatistic);
    for (size_t i = 0; i < next.size(); ++i) program_.tensor(item.replaced[i]).next = next[i];
  }
}

TensorId Builder::add_tensor(std::string name, TensorType type, Role role, bool needs_gradient) {
  needs_gradient_.push_back(needs_gradient);
  return program_.add(std::move(name), std::move(type), role);
}

std::vector<TensorId> Builder::append(Phase phase, const OpKind& kind, const std::vector<TensorId>& inputs,
                                      const std::vector<std::string>& names, Role role) {
  const std::vector<TensorType> types = infer(kind, program_.types(inputs));
  const bool needs =
      phase == Phase::kForward && std::ranges::any_of(inputs, [&](TensorId id) { return needs_gradient(id); });
  Op op{kind, inputs, {}, layer_, phase};
  for (size_t i = 0; i < types.size(); ++i) op.outputs.push_back(add_tensor(names[i], types[i], role, needs));
  program_.append(op);
  return op.outputs;
}

std::string Builder::unique(const std::string& name) {
  const int uses = name_uses_[name]++;
  return uses == 0 ? name : name + "#" + std::to_string(uses);
}

}  // namespace triphase
