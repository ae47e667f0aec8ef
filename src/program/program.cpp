// SPDX-License-Identifier: Apache-2.0
#include "program/program.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <stdexcept>
#include <utility>

namespace triphase {

std::vector<TensorType> StepProgram::types(const std::vector<TensorId>& ids) const {
  std::vector<TensorType> types;
  for (const TensorId id : ids) types.push_back(tensor(id).type);
  return types;
}

TensorId StepProgram::add(std::string name, TensorType type, Role role, Init init) {
  Tensor& tensor = tensors.emplace_back();
  tensor.name = std::move(name);
  tensor.type = std::move(type);
  tensor.role = role;
  tensor.init = init;
  return static_cast<TensorId>(tensors.size() - 1);
}

void StepProgram::append(Op op) {
  const auto index = static_cast<int>(ops.size());
  for (const TensorId id : op.outputs) tensor(id).producer = index;
  for (const TensorId id : op.inputs) {
    std::vector<int>& readers = tensor(id).readers;
    if (readers.empty() || readers.back() != index) readers.push_back(index);  // once, if it reads it twice
  }
  ops.push_back(std::move(op));
}

Init weight_init(int64_t fan_in) { return {Init::Kind::kTruncatedNormal, 1 / std::sqrt(static_cast<double>(fan_in))}; }

int64_t size_in_bytes(const TensorType& type) {
  return checked_mul(element_count(type.shape), size_in_bytes(type.dtype));
}

Cost cost(const StepProgram& program, const Op& op) {
  return cost(op.kind, program.types(op.inputs), program.types(op.outputs));
}

TensorId storage_of(const StepProgram& program, TensorId id) {
  for (int producer = program.tensor(id).producer; producer >= 0; producer = program.tensor(id).producer) {
    const Op& op = program.ops[static_cast<size_t>(producer)];
    if (!std::holds_alternative<Reshape>(op.kind)) break;
    id = op.inputs[0];
  }
  return id;
}

TensorId previous_version(const StepProgram& program, TensorId id) {
  const auto found = std::ranges::find(program.tensors, id, &Tensor::next);
  return found == program.tensors.end() ? kNoTensor : static_cast<TensorId>(found - program.tensors.begin());
}

Memory logical_memory(const StepProgram& program) {
  Memory memory;
  const auto add = [](int64_t& sum, const TensorType& type) { sum = checked_add(sum, size_in_bytes(type)); };
  std::set<TensorId> has_copy;
  for (const Tensor& tensor : program.tensors) has_copy.insert(tensor.master);
  std::set<TensorId> kept;
  for (TensorId id = 0; id < static_cast<TensorId>(program.tensors.size()); ++id) {
    const Tensor& tensor = program.tensor(id);
    const bool given = tensor.producer < 0;
    if (given && (tensor.role == Role::kParameter || tensor.role == Role::kCopy)) {
      add(memory.parameters, tensor.type);
      if (!has_copy.contains(id)) add(memory.gradients, tensor.type);  // of the copy, where there is one
    }
    if (given && tensor.role == Role::kState) add(memory.optimizer_state, tensor.type);
    if (given && tensor.role == Role::kStatistic) add(memory.statistics, tensor.type);
    if (tensor.role == Role::kInput || tensor.role == Role::kTarget) add(memory.input, tensor.type);
    if (tensor.role != Role::kValue) continue;
    for (const int reader : tensor.readers) {
      if (is_backward(program.ops[static_cast<size_t>(reader)].phase)) kept.insert(storage_of(program, id));
    }
  }
  for (const TensorId id : kept) {
    if (program.tensor(id).role == Role::kValue) add(memory.activations, program.tensor(id).type);
  }
  for (const int64_t part : {memory.parameters, memory.gradients, memory.optimizer_state, memory.activations,
                             memory.statistics, memory.input}) {
    memory.total = checked_add(memory.total, part);
  }
  return memory;
}

int64_t parameter_count(const StepProgram& program) {
  int64_t count = 0;
  for (const Tensor& tensor : program.tensors) {
    if (tensor.role == Role::kParameter && tensor.producer < 0) {
      count = checked_add(count, element_count(tensor.type.shape));
    }
  }
  return count;
}

void validate(const StepProgram& program) {
  const auto require = [](bool condition, const std::string& what) {
    if (!condition) throw std::logic_error("StepProgram: " + what);
  };
  std::set<std::string> names;
  for (const Tensor& tensor : program.tensors) {
    require(names.insert(tensor.name).second, "two tensors are named " + tensor.name);
  }
  std::vector<char> written(program.tensors.size());
  for (size_t i = 0; i < program.tensors.size(); ++i) written[i] = program.tensors[i].producer < 0;
  std::vector<std::set<int>> readers(program.tensors.size());
  bool updating = false;
  for (size_t i = 0; i < program.ops.size(); ++i) {
    const Op& op = program.ops[i];
    const std::string name =
        std::string(name_of(op.kind)) + " of " + program.layers[static_cast<size_t>(op.layer)].name;
    updating = updating || op.phase == Phase::kUpdate;
    require(updating == (op.phase == Phase::kUpdate), name + " comes after an update");
    for (const TensorId id : op.inputs) {
      require(written[static_cast<size_t>(id)], name + " reads what is not written");
      readers[static_cast<size_t>(id)].insert(static_cast<int>(i));
    }
    require(infer(op.kind, program.types(op.inputs)) == program.types(op.outputs), name + " writes other types");
    for (const TensorId id : op.outputs) {
      require(!written[static_cast<size_t>(id)], name + " writes a tensor twice");
      require(program.tensor(id).producer == static_cast<int>(i), name + " is not its outputs' producer");
      written[static_cast<size_t>(id)] = 1;
    }
  }
  for (size_t i = 0; i < program.tensors.size(); ++i) {
    const Tensor& tensor = program.tensors[i];
    require(std::ranges::equal(tensor.readers, readers[i]), "others read " + tensor.name + " than it knows");
  }
}

}  // namespace triphase
