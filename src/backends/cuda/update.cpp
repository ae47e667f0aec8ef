// SPDX-License-Identifier: Apache-2.0
// Updates of parameters, and of the narrow copies that layers read.
#include "backends/cuda/compile.h"

namespace triphase::cuda {
namespace {

// Parameters of at most as many elements are updated together: alone, launching takes longer than the update.
constexpr int64_t kMostTogether = 1 << 20;
// As many as one kernel takes.
constexpr size_t kMostUpdates = kernels::Update<Sgd, float>::kMostParts;

}  // namespace

// Parameters and states are replaced where they lie, copies with them; small parameters together.
void CudaPlan::compile_update(int op, const Update& kind) {
  const auto gradient_of = [&](int update) { return op_at(update).inputs[1]; };
  const auto is_small = [&](int update) { return count(op_at(update).inputs[0]) <= kMostTogether; };
  std::vector<int> updates = {op};
  for (int other = op + 1; is_small(op) && other < static_cast<int>(program_.ops.size()); ++other) {
    if (updates.size() == kMostUpdates) break;
    if (!std::holds_alternative<Update>(op_at(other).kind) || !is_small(other)) continue;
    if (group_of_op_[static_cast<size_t>(other)] >= 0 || dtype(gradient_of(other)) != dtype(gradient_of(op))) continue;
    if (program_.tensor(gradient_of(other)).producer > op) continue;
    updates.push_back(other);
  }
  std::vector<int> ops;
  std::vector<TensorId> copies;  // by update
  for (const int update : updates) {
    const int reader = only_reader(op_at(update).outputs[0], Phase::kUpdate);
    const bool copied = reader >= 0 && std::holds_alternative<Convert>(op_at(reader).kind);
    ops.push_back(update);
    if (copied) ops.push_back(reader);
    copies.push_back(copied ? op_at(reader).outputs[0] : kNoTensor);
  }
  begin(ops);
  for (size_t u = 0; u < updates.size(); ++u) {
    const std::vector<TensorId>& in = op_at(updates[u]).inputs;  // w, gradient, scalars, states
    const std::vector<TensorId>& out = op_at(updates[u]).outputs;
    put(out[0], in[0]);
    for (size_t s = 3; s < in.size(); ++s) put(out[s - 2], in[s]);
    for (const TensorId id : in) touch(id);
    for (const TensorId id : out) touch(id);
    if (copies[u] == kNoTensor) continue;
    put(copies[u], previous_version(program_, copies[u]));
    touch(copies[u]);
  }
  const auto unscale = static_cast<float>(1 / kind.loss_scale);
  const auto launch = [=, this]<class T, class Rule>(const Rule& rule) {
    kernels::Update<Rule, T> kernel{};
    kernel.rule = rule;
    kernel.unscale = unscale;
    kernel.scalars = data(program_.scalars);
    int64_t elements = 0;
    for (size_t u = 0; u < updates.size(); ++u) {
      const std::vector<TensorId>& in = op_at(updates[u]).inputs;
      auto& part = kernel.parts[kernel.count++];
      part.w = data(in[0]);
      part.gradient = data<T>(in[1]);
      for (size_t s = 3; s < in.size(); ++s) part.states[s - 3] = data(in[s]);
      part.copy = copies[u] == kNoTensor ? nullptr : data<T>(copies[u]);
      part.end = elements += count(in[0]);
    }
    device_->launch(kernel, elements);
  };
  end(own_kernel(std::string(name_of(kind.optimizer))),
      [=, optimizer = kind.optimizer, dtype = dtype(gradient_of(op))] {
        std::visit(
            [&](const auto& rule) { with_float_type(dtype, [&]<class T>() { launch.template operator()<T>(rule); }); },
            optimizer);
      });
}

// A copy apart from its parameter's update.
void CudaPlan::compile_convert(int op) {
  const TensorId x = op_at(op).inputs[0];
  const TensorId copy = op_at(op).outputs[0];
  begin({op});
  put(copy, previous_version(program_, copy));
  end_elementwise(op, copy, [=, this]<class T>() { return kernels::Convert<T>{data(x), data<T>(copy)}; });
}

}  // namespace triphase::cuda
