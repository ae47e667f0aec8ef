// SPDX-License-Identifier: Apache-2.0
#include "program/kernel.h"

#include <algorithm>
#include <map>
#include <set>
#include <stdexcept>

#include "program/precision.h"

namespace triphase {
namespace {

// The moments that batch normalisation's backward and its running statistics read, neither of them a value that may be
// forgotten unseen; a variance is positive.
constexpr double kMean = 0.5;
constexpr double kVariance = 2;

bool reads_moments(const OpKind& kind, size_t input) {
  if (std::holds_alternative<BatchNorm2dBackward>(kind)) return input >= 3;
  return std::holds_alternative<RunningStatistics>(kind) && input >= 2;
}

class Extractor {
 public:
  Extractor(const StepProgram& from, std::span<const int> ops) : from_(from) {
    kernel_.phase = op_at(ops.front()).phase;
    StepProgram& to = kernel_.program;
    to.batch = 1;
    to.precision = from.precision;
    to.loss_scale = from.loss_scale;
    to.layers = {{"kernel", "kernel", false}};
    if (std::ranges::any_of(ops, [&](int op) { return std::holds_alternative<Update>(op_at(op).kind); })) {
      to.optimizer = from.optimizer;
    }
    const auto scalars = static_cast<int64_t>(step_scalars(to.optimizer, 1).size());
    to.scalars = to.add("optimizer.scalars", {{scalars}, DType::kF32}, Role::kScalars);
    ids_[from.scalars] = to.scalars;
    for (const int op : ops) {
      for (const TensorId id : op_at(op).inputs) {
        const int producer = from.tensor(id).producer;
        const bool pooled = producer >= 0 && std::holds_alternative<MaxPool2d>(op_at(producer).kind);
        if (pooled && id == op_at(producer).outputs[1]) append(op_at(producer));
      }
    }
    for (const int op : ops) {
      if (op_at(op).phase != kernel_.phase) throw std::invalid_argument("extract: ops of one phase");
      append(op_at(op));
    }
    for (const auto& [old_id, id] : ids_) {
      const auto next = ids_.find(from.tensor(old_id).next);
      if (next != ids_.end()) to.tensor(id).next = next->second;
    }
    validate(to);
  }

  Kernel take() { return std::move(kernel_); }

 private:
  const Op& op_at(int op) const { return from_.ops[static_cast<size_t>(op)]; }

  std::string numbered(const char* what) const { return what + std::to_string(kernel_.program.tensors.size()); }

  void append(const Op& op) {
    StepProgram& to = kernel_.program;
    Op copy{op.kind, {}, {}, 0, op.phase};
    for (size_t i = 0; i < op.inputs.size(); ++i) {
      auto found = ids_.find(op.inputs[i]);
      if (found == ids_.end()) found = ids_.emplace(op.inputs[i], add_given(op, i)).first;
      copy.inputs.push_back(found->second);
    }
    for (const TensorId output : op.outputs) {
      const Tensor& old = from_.tensor(output);
      copy.outputs.push_back(ids_[output] = to.add(numbered("out"), old.type, old.role));
    }
    to.append(std::move(copy));
  }

  TensorId add_given(const Op& op, size_t input) {
    const Tensor& old = from_.tensor(op.inputs[input]);
    const Shape& shape = old.type.shape;
    const std::string name = numbered("in");
    StepProgram& to = kernel_.program;
    if (old.role == Role::kParameter || old.role == Role::kCopy) {
      const int64_t fan_in = shape.size() > 1 ? element_count(shape) / shape[0] : 1;
      return to.add(name, old.type, Role::kParameter, weight_init(fan_in));
    }
    if (old.role != Role::kValue && old.role != Role::kGradient) return to.add(name, old.type, old.role, old.init);
    if (!reads_moments(op.kind, input)) return to.add(name, old.type, Role::kInput);
    const bool variance = input == op.inputs.size() - 1;
    return to.add(name, old.type, Role::kStatistic, {Init::Kind::kConstant, variance ? kVariance : kMean});
  }

  const StepProgram& from_;
  Kernel kernel_;
  std::map<TensorId, TensorId> ids_;  // of tensors in the step: those in the kernel
};

std::vector<const Op*> ops_of(const Kernel& kernel) {
  std::vector<const Op*> ops;
  for (const Op& op : kernel.program.ops) {
    if (op.phase == kernel.phase) ops.push_back(&op);
  }
  return ops;
}

// What comes from outside the kernel and what leaves it, each in the order of the ops.
struct Operands {
  std::vector<TensorId> in;
  std::vector<TensorId> out;
};

Operands operands_of(const Kernel& kernel) {
  Operands operands;
  std::set<TensorId> written;
  std::set<TensorId> read;
  for (const Op* op : ops_of(kernel)) {
    for (const TensorId id : op->inputs) {
      if (!written.contains(id) && !read.contains(id) && id != kernel.program.scalars) operands.in.push_back(id);
      read.insert(id);
    }
    written.insert(op->outputs.begin(), op->outputs.end());
  }
  for (const Op* op : ops_of(kernel)) {
    for (const TensorId id : op->outputs) {
      if (!read.contains(id)) operands.out.push_back(id);
    }
  }
  return operands;
}

std::string extents(const auto& shape) {
  std::string text;
  for (const int64_t extent : shape) text += (text.empty() ? "" : "x") + std::to_string(extent);
  return text.empty() ? "scalar" : text;
}

// With "f32" where an operand is kept wider than the step's precision says.
std::string extents_of(const Kernel& kernel, const std::vector<TensorId>& ids) {
  std::string text;
  for (const TensorId id : ids) {
    const TensorType& type = kernel.program.tensor(id).type;
    const bool wider = type.dtype == DType::kF32 && is_narrow(dtype_of(kernel.program.precision));
    text += (text.empty() ? "" : ",") + extents(type.shape) + (wider ? ":f32" : "");
  }
  return text;
}

// A convolution's kernel is its weights' shape.
std::string describe(const Window& window, bool with_kernel) {
  std::string text;
  if (with_kernel) text += "/kernel:" + extents(window.kernel);
  const Window usual;
  if (window.stride != usual.stride) text += "/stride:" + extents(window.stride);
  if (window.padding != usual.padding) text += "/padding:" + extents(window.padding);
  if (window.dilation != usual.dilation) text += "/dilation:" + extents(window.dilation);
  return text;
}

std::string describe(const AvgPool2d& pool) {
  const bool matters = pool.window.padding != std::array<int64_t, 2>{0, 0};
  return describe(pool.window, true) + (matters && !pool.count_include_pad ? "/count_include_pad:0" : "");
}

std::string attributes(const OpKind& kind, Precision precision) {
  const auto describe_scale = [&](double loss_scale) { return loss_scale_suffix(precision, loss_scale); };
  return std::visit(Overloaded{
                        [](const Conv2d& conv) { return describe(conv.window, false); },
                        [](const Conv2dBackwardData& op) { return describe(op.conv.window, false); },
                        [](const Conv2dBackwardWeights& op) { return describe(op.conv.window, false); },
                        [](const MaxPool2d& pool) { return describe(pool.window, true); },
                        [](const MaxPool2dBackward& op) { return describe(op.window, true); },
                        [](const AvgPool2d& pool) { return describe(pool); },
                        [](const AvgPool2dBackward& op) { return describe(op.pool); },
                        [&](const SoftmaxCrossEntropyBackward& op) { return describe_scale(op.loss_scale); },
                        [&](const MeanSquareBackward& op) { return describe_scale(op.loss_scale); },
                        [&](const Update& op) {
                          return "/optimizer:" + std::string(name_of(op.optimizer)) + describe_scale(op.loss_scale);
                        },
                        [](const auto&) { return std::string(); },
                    },
                    kind);
}

}  // namespace

Kernel extract(const StepProgram& program, std::span<const int> ops) { return Extractor(program, ops).take(); }

std::string op_name(const Kernel& kernel) {
  std::vector<const Op*> ops = ops_of(kernel);
  std::ranges::stable_sort(ops, std::greater(), [&](const Op* op) { return cost(kernel.program, *op).flop; });
  std::string name;
  for (const Op* op : ops) name += (name.empty() ? "" : "+") + std::string(name_of(op->kind));
  return name;
}

std::string name_of(const Kernel& kernel) {
  const Operands operands = operands_of(kernel);
  std::string name =
      op_name(kernel) + "/in:" + extents_of(kernel, operands.in) + "/out:" + extents_of(kernel, operands.out);
  for (const Op* op : ops_of(kernel)) name += attributes(op->kind, kernel.program.precision);
  return name;
}

Cost cost(const Kernel& kernel) {
  Cost sum;
  for (const Op* op : ops_of(kernel)) sum += cost(kernel.program, *op);
  return sum;
}

int64_t operand_bytes(const Kernel& kernel) {
  const Operands operands = operands_of(kernel);
  std::set<TensorId> replaced;
  for (const TensorId id : operands.in) replaced.insert(kernel.program.tensor(id).next);
  int64_t bytes = 0;
  for (const TensorId id : operands.in) bytes = checked_add(bytes, size_in_bytes(kernel.program.tensor(id).type));
  for (const TensorId id : operands.out) {
    if (!replaced.contains(id)) bytes = checked_add(bytes, size_in_bytes(kernel.program.tensor(id).type));
  }
  return bytes;
}

}  // namespace triphase
