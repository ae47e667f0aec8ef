// SPDX-License-Identifier: Apache-2.0
// Builds a StepProgram layer by layer. A layer appends its forward ops and hands back how its backward goes; the
// builder runs those in reverse, sums gradients that meet with explicit adds, and ends with one update per parameter.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "program/program.h"

namespace triphase {

class Builder;

// What a layer's lowering returns: its output, and what to append once the gradient `dy` of that output is known.
struct Lowered {
  TensorId output = kNoTensor;
  std::function<void(TensorId dy)> backward;
};

using Lower = std::function<Lowered(Builder&, std::span<const TensorId> inputs)>;

class Builder {
 public:
  Builder(int64_t batch, Optimizer optimizer);

  // The network's data: [batch, shape...].
  TensorId input(const Shape& shape);

  // Appends one layer. `owner` is the layer whose parameters it uses: itself, or another where weights are shared.
  TensorId layer(const std::string& name, const std::string& kind, const std::string& owner, const Lower& lower,
                 std::span<const TensorId> inputs);

  // Appends the loss on `output`, every backward, the updates, and gives the finished program.
  StepProgram finish(const std::string& loss_kind, const Lower& loss, TensorId output);

  // For layers, while they lower:
  int64_t batch() const { return program_.batch; }
  const Shape& shape(TensorId id) const { return program_.tensor(id).type.shape; }
  bool needs_gradient(TensorId id) const { return needs_gradient_[static_cast<size_t>(id)]; }
  TensorId target();

  // A learnt tensor of this layer; the same one again for a layer that shares weights.
  TensorId parameter(const std::string& suffix, const Shape& shape, Init init);
  // A running statistic of this layer.
  TensorId statistic(const std::string& suffix, const Shape& shape, double initial);
  // Appends, with the updates, an op that maps `inputs` to the next versions of the statistics `replaced`, in order.
  void replace_statistics(const OpKind& kind, std::vector<TensorId> inputs, std::vector<TensorId> replaced);

  // Appends an op of the forward phase; `what` names its outputs beside the layer, the first may stay unnamed.
  TensorId forward(const OpKind& kind, const std::vector<TensorId>& inputs);
  std::vector<TensorId> forward(const OpKind& kind, const std::vector<TensorId>& inputs,
                                const std::vector<std::string>& what);

  // Appends an op of a backward phase that makes gradients of the tensors `of`. A tensor may get several: they are
  // summed.
  void gradient(Phase phase, const OpKind& kind, const std::vector<TensorId>& inputs, std::vector<TensorId> of);
  // `gradient`, a tensor that exists already, is a gradient of `of`.
  void pass_gradient(TensorId gradient, TensorId of);

 private:
  TensorId add_tensor(std::string name, TensorType type, Role role, bool needs_gradient);
  std::vector<TensorId> append(Phase phase, const OpKind& kind, const std::vector<TensorId>& inputs,
                               const std::vector<std::string>& names, Role role);
  std::string unique(const std::string& name);
  TensorId gradient_of(TensorId id) const;
  void append_updates();

  struct LoweredLayer {
    int layer = 0;
    Lowered lowered;
  };
  struct Replacement {
    int layer = 0;
    OpKind kind;
    std::vector<TensorId> inputs, replaced;
  };

  StepProgram program_;
  std::vector<char> needs_gradient_;
  std::map<std::string, int> name_uses_;
  std::map<std::string, TensorId> parameters_;  // by name
  std::map<TensorId, int> parameter_layers_;    // the layer that owns it
  std::map<TensorId, TensorId> gradients_;      // by tensor, the sum of what has come so far
  std::vector<LoweredLayer> lowered_;
  std::vector<Replacement> replacements_;
  std::string owner_;
  int layer_ = 0;
};

}  // namespace triphase
