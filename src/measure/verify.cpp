// SPDX-License-Identifier: Apache-2.0
#include "measure/verify.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <set>

#include "core/random.h"
#include "measure/element.h"

namespace triphase {
namespace {

constexpr int64_t kMostElements = 2048;  // sampled of one output
constexpr int64_t kFewestElements = 32;

struct Expectation {
  int op = 0;
  TensorId tensor = kNoTensor;
  int64_t index = 0;
  Element element;
};

std::vector<int64_t> chosen_indices(int64_t count, int64_t most, VerifyMode mode, uint64_t stream) {
  std::vector<int64_t> indices;
  const int64_t wanted = std::clamp(most, kFewestElements, kMostElements);
  if (mode == VerifyMode::kFull || count <= wanted) {
    for (int64_t i = 0; i < count; ++i) indices.push_back(i);
    return indices;
  }
  indices = {0, count - 1};
  for (int64_t i = 2; i < wanted; ++i) {
    indices.push_back(
        static_cast<int64_t>(random_bits(stream, static_cast<uint64_t>(i)) % static_cast<uint64_t>(count)));
  }
  return indices;
}

// Enough digits to tell floats apart.
std::string printed(double value) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.9g", value);
  return text.data();
}

std::string describe_fault(const StepProgram& program, const Group& group, const Expectation& expected, double found) {
  const Op& op = program.ops[static_cast<size_t>(expected.op)];
  const Tensor& tensor = program.tensor(expected.tensor);
  const DType dtype = tensor.type.dtype;
  const bool scaled = tensor.role == Role::kGradient && program.loss_scale > 1;
  return program.layers[static_cast<size_t>(op.layer)].name + ": " + std::string(name_of(op.kind)) + " (" +
         group.implementation.name + ") wrote " + printed(found) + " to element " + std::to_string(expected.index) +
         " of " + tensor.name + " where float64 has " + printed(expected.element.value) + " (bound " +
         printed(expected.element.bound(dtype)) + ")" +
         (scaled && !std::isfinite(found) ? "; f16 ends at 65504, which a smaller --loss_scale keeps gradients below"
                                          : "");
}

// Watches one step: before each group it recomputes what the group should write, after it compares.
class Checker {
 public:
  Checker(const StepProgram& program, Plan& plan, VerifyMode mode, uint64_t seed, int64_t most_reads)
      : program_(program), plan_(plan), mode_(mode), seed_(seed), most_reads_(most_reads), evaluator_(program, plan) {}

  void before(int group) {
    expectations_.clear();
    const std::vector<int>& ops = plan_.groups()[static_cast<size_t>(group)].ops;
    evaluator_.before(ops);
    for (const int op : ops) {
      const std::vector<TensorId>& outputs = program_.ops[static_cast<size_t>(op)].outputs;
      for (size_t o = 0; o < outputs.size(); ++o) {
        if (!plan_.materialised(outputs[o])) continue;
        const int64_t count = element_count(program_.tensor(outputs[o]).type.shape);
        const uint64_t stream = random_stream(program_.tensor(outputs[o]).name, seed_);
        for (const int64_t index :
             chosen_indices(count, most_reads_ / std::max<int64_t>(evaluator_.work(op, o), 1), mode_, stream)) {
          expectations_.push_back({op, outputs[o], index, evaluator_.evaluate(op, o, index)});
        }
      }
    }
  }

  void after(int index, Verification& result) {
    const Group& group = plan_.groups()[static_cast<size_t>(index)];
    for (const Expectation& expected : expectations_) {
      const double found = plan_.read(expected.tensor, expected.index);
      const double error = std::abs(found - expected.element.value) /
                           expected.element.bound(program_.tensor(expected.tensor).type.dtype);
      if (!(error <= result.max_error_over_bound)) result.max_error_over_bound = error;
      if (!(error <= 1) && result.failure.empty()) result.failure = describe_fault(program_, group, expected, found);
      note_gradient(expected, found);
    }
    result.elements_checked += static_cast<int64_t>(expectations_.size());
    const auto ops = static_cast<int>(group.ops.size());
    (expectations_.empty() ? result.ops_unchecked : result.ops_checked) += ops;
  }

  // The learning rate at which the first step should lower the loss by `fall`.
  double learning_rate(double fall) const {
    double descent = 0;  // per unit of learning rate
    for (const auto& [tensor, sums] : gradients_) {
      const auto count = static_cast<double>(element_count(program_.tensor(tensor).type.shape));
      // An optimizer that divides by the gradient's size moves by about the learning rate, ten times it at first for
      // RMSProp; others by the gradient times it.
      const bool divides = divides_by_gradient(program_.optimizer);
      descent += (divides ? sums.absolute : sums.square) / sums.elements * count;
    }
    return descent > 0 ? fall / descent : 0;
  }

 private:
  struct GradientSums {
    double square = 0, absolute = 0, elements = 0;
  };

  void note_gradient(const Expectation& expected, double found) {
    const std::vector<int>& readers = program_.tensor(expected.tensor).readers;
    const auto updates = [&](int op) {
      return std::holds_alternative<Update>(program_.ops[static_cast<size_t>(op)].kind);
    };
    if (program_.tensor(expected.tensor).role != Role::kGradient || !std::ranges::any_of(readers, updates)) return;
    GradientSums& sums = gradients_[expected.tensor];
    const double gradient = found / program_.loss_scale;
    sums.square += gradient * gradient;
    sums.absolute += std::abs(gradient);
    sums.elements += 1;
  }

  const StepProgram& program_;
  Plan& plan_;
  VerifyMode mode_;
  uint64_t seed_;
  int64_t most_reads_;
  ElementEvaluator evaluator_;
  std::vector<Expectation> expectations_;
  std::map<TensorId, GradientSums> gradients_;
};

}  // namespace

Verification verify(const StepProgram& program, Plan& plan, VerifyMode mode, uint64_t seed, int64_t most_reads) {
  Verification result;
  if (mode == VerifyMode::kOff) return result;
  Checker checker(program, plan, mode, seed, most_reads);
  plan.run_observed([&](int group) { checker.before(group); }, [&](int group) { checker.after(group, result); });
  if (program.loss == kNoTensor) {  // a kernel alone
    plan.restore();
    return result;
  }
  result.first_loss = result.last_loss = plan.read(program.loss, 0);

  // A step that goes against the gradient, or nowhere, never lowers the loss; too long a step may fail to, so that a
  // second attempt takes a tenth of it.
  constexpr double kFall = 0.02;
  constexpr int kSteps = 3;
  double rate = checker.learning_rate(kFall * result.first_loss);
  bool fell = rate == 0;  // nothing to learn, as with all gradients zero
  for (int attempt = 0; attempt < 2 && !fell; ++attempt, rate /= 10) {
    plan.restore();
    plan.set_learning_rate(rate);
    std::vector<double> stamps;
    for (int step = 0; step < kSteps; ++step) plan.run_step(Marks::kNone, stamps);
    result.last_loss = plan.read(program.loss, 0);
    fell = result.last_loss < result.first_loss;
  }
  if (!fell && result.failure.empty()) {
    result.failure = "the loss does not fall: " + std::to_string(result.first_loss) + " at first, " +
                     std::to_string(result.last_loss) + " after " + std::to_string(kSteps) + " steps";
    if (program.loss_scale > 1 && !std::isfinite(result.last_loss)) {
      result.failure += "; a gradient may have passed 65504, the end of f16: try a smaller --loss_scale";
    }
  }
  plan.restore();
  return result;
}

}  // namespace triphase
