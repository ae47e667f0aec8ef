// SPDX-License-Identifier: Apache-2.0
#include "program/precision.h"

#include <map>
#include <utility>

namespace triphase {
namespace {

bool reads_copies(const OpKind& kind) {
  return std::holds_alternative<MatMul>(kind) || std::holds_alternative<AddBias>(kind) ||
         std::holds_alternative<Conv2d>(kind) || std::holds_alternative<Conv2dBackwardData>(kind);
}

class Narrower {
 public:
  Narrower(StepProgram& program, DType dtype) : program_(program), dtype_(dtype) {
    program.tensor(program.input).type.dtype = dtype;
    for (Tensor& tensor : program.tensors) tensor.readers.clear();  // until each op is appended again
    for (Op& op : std::exchange(program.ops, {})) {
      if (reads_copies(op.kind)) {
        for (TensorId& id : op.inputs) id = copy_of(id);
      }
      const std::vector<TensorType> types = infer(op.kind, program.types(op.inputs));
      for (size_t i = 0; i < types.size(); ++i) program.tensor(op.outputs[i]).type = types[i];
      const auto copy = std::holds_alternative<Update>(op.kind) ? copies_.find(op.inputs[0]) : copies_.end();
      program.append(op);
      if (copy != copies_.end()) replace(copy->second, op);
    }
  }

 private:
  TensorId add(const std::string& name, const Tensor& master) {
    return program_.add(name, {master.type.shape, dtype_}, Role::kCopy);
  }

  // What an op is to read for `id`: the copy of a parameter, anything else itself.
  TensorId copy_of(TensorId id) {
    const Tensor& master = program_.tensor(id);
    if (master.role != Role::kParameter) return id;
    const auto [slot, is_new] = copies_.try_emplace(id);
    if (is_new) {
      slot->second = add(master.name + "." + std::string(to_string(dtype_)), master);
      program_.tensor(slot->second).master = id;
    }
    return slot->second;
  }

  // After `update`, the new parameter's copy takes the place of the old one's.
  void replace(TensorId copy, const Op& update) {
    const TensorId next = add(program_.tensor(copy).name + ".next", program_.tensor(copy));
    program_.tensor(copy).next = next;
    program_.append({Convert{dtype_}, {update.outputs[0]}, {next}, update.layer, update.phase});
  }

  StepProgram& program_;
  DType dtype_;
  std::map<TensorId, TensorId> copies_;  // by parameter
};

void scale_loss(StepProgram& program, double scale) {
  program.loss_scale = scale;
  for (Op& op : program.ops) {
    std::visit(
        [&](auto& kind) {
          if constexpr (requires { kind.loss_scale; }) kind.loss_scale = scale;
        },
        op.kind);
  }
}

}  // namespace

StepProgram with_precision(StepProgram f32, Precision precision, std::optional<double> loss_scale) {
  f32.precision = precision;
  if (is_narrow(dtype_of(precision))) Narrower(f32, dtype_of(precision));
  if (precision == Precision::kF16) scale_loss(f32, loss_scale.value_or(usual_loss_scale(precision)));
  validate(f32);
  return f32;
}

std::string loss_scale_suffix(Precision precision, double loss_scale) {
  if (loss_scale == usual_loss_scale(precision)) return "";
  return "/loss_scale:" + std::to_string(static_cast<int64_t>(loss_scale));
}

}  // namespace triphase
