// SPDX-License-Identifier: Apache-2.0
#include "backends/reference/reference.h"

#include "backends/evict.h"
#include "backends/grouped_plan.h"
#include "backends/reference/interpreter.h"
#include "core/checked.h"
#include "program/initial.h"

namespace triphase {
namespace {

class ReferencePlan : public GroupedPlan {
 public:
  explicit ReferencePlan(const StepProgram& program) : GroupedPlan(program), interpreter_(program) {
    int64_t end = 0;
    for (const Tensor& tensor : program.tensors) {
      extents_.push_back({end, checked_mul(element_count(tensor.type.shape), int64_t{sizeof(double)})});
      end = checked_add(end, extents_.back().bytes);
    }
    for (size_t i = 0; i < program.ops.size(); ++i) {
      const Op& op = program.ops[i];
      add_group({{static_cast<int>(i)}, "reference:f64", cost(program, op).traffic_bytes * 2},
                [this, &op] { interpreter_.run(op); });
    }
  }

  MemoryPlan memory_plan() const override {
    MemoryPlan plan;
    for (TensorId id = 0; id < static_cast<TensorId>(program_.tensors.size()); ++id) {
      (program_.tensor(id).producer < 0 ? plan.persistent_bytes : plan.transient_bytes) += extent(id).bytes;
    }
    return plan;
  }

  void allocate(uint64_t seed) override {
    seed_ = seed;
    fill([](const Tensor&) { return true; });
  }

  void restore() override {
    fill([](const Tensor& tensor) { return tensor.next != kNoTensor; });
    rewind();
  }

  bool evict() override {
    for (TensorId id = 0; id < static_cast<TensorId>(program_.tensors.size()); ++id) {
      const std::vector<double>& values = interpreter_[id];
      evict_lines(values.data(), static_cast<int64_t>(values.size() * sizeof(double)));
    }
    return can_evict();
  }

  Extent extent(TensorId id) const override { return extents_[static_cast<size_t>(id)]; }
  double read(TensorId id, int64_t index) const override { return interpreter_[id][static_cast<size_t>(index)]; }

 protected:
  void begin_step(const std::vector<double>& scalars) override {
    if (stepped_) interpreter_.advance();
    stepped_ = true;
    interpreter_[program_.scalars] = scalars;
  }

 private:
  template <class Filter>
  void fill(Filter filter) {
    for (TensorId id = 0; id < static_cast<TensorId>(program_.tensors.size()); ++id) {
      const Tensor& tensor = program_.tensor(id);
      if (tensor.producer >= 0 || tensor.role == Role::kScalars || !filter(tensor)) continue;
      const InitialValues initial(program_, id, seed_);
      std::vector<double>& values = interpreter_[id];
      values.resize(static_cast<size_t>(element_count(tensor.type.shape)));
      for (size_t i = 0; i < values.size(); ++i) {
        values[i] = rounded(initial(static_cast<int64_t>(i)), tensor.type.dtype);
      }
    }
    stepped_ = false;
  }

  Interpreter<double> interpreter_;
  std::vector<Extent> extents_;  // by tensor: none shares another's
  uint64_t seed_ = 0;
  bool stepped_ = false;
};

class ReferenceBackend : public Backend {
 public:
  std::string name() const override { return "reference"; }
  std::vector<std::pair<std::string, std::string>> versions() const override { return {}; }
  std::variant<std::unique_ptr<Plan>, Unsupported> compile(const StepProgram& program, const CompileOptions&) override {
    return std::make_unique<ReferencePlan>(program);
  }
};

}  // namespace

std::unique_ptr<Backend> make_reference_backend() { return std::make_unique<ReferenceBackend>(); }

}  // namespace triphase
