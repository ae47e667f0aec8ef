// SPDX-License-Identifier: Apache-2.0
// Compiling what runs element by element in own loops: ReLU alone and backward, sums, views, losses and updates. Where
// an operand dies with the op, the result takes its place.
#include "backends/onednn/kernels.h"
#include "backends/onednn/plan.h"

namespace triphase {

using dnnl::memory;

void OnednnPlan::compile_pointwise(int op) {
  const Op& that = op_at(op);
  const TensorId a = that.inputs[0];
  const TensorId y = that.outputs[0];
  // The layout of the operand that decides: ReLU's saved output, an add's first.
  const bool relu_backwards = std::holds_alternative<ReluBackward>(that.kind);
  const memory::desc desc = layout(relu_backwards ? that.inputs[1] : a).desc();
  begin({op});
  put(y, desc, dies_at(a, op) && layout(a).desc() == desc ? a : kNoTensor);
  for (const TensorId id : that.inputs) touch(id);
  touch(y);
  const memory first = bind_as(a, desc);
  const memory second = that.inputs.size() > 1 ? bind_as(that.inputs[1], desc) : memory();
  const int64_t count = layout(y).stored_elements();
  const auto pointer = [](const memory& m) { return static_cast<const float*>(m.get_data_handle()); };
  if (std::holds_alternative<Relu>(that.kind)) {
    end({{"loop:relu", [=, this] { relu(pointer(first), data(y), count); }}});
  } else if (relu_backwards) {
    end({{"loop:relu_backward", [=, this] { relu_backward(pointer(first), pointer(second), data(y), count); }}});
  } else if (std::holds_alternative<Add>(that.kind)) {
    end({{"loop:add", [=, this] { add(pointer(first), pointer(second), data(y), count); }}});
  } else {
    throw Unimplemented(std::string(name_of(that.kind)));
  }
}

void OnednnPlan::compile_reshape(int op) {
  const TensorId x = op_at(op).inputs[0];
  const TensorId y = op_at(op).outputs[0];
  begin({op});
  const memory::desc y_desc = row_major(program_.tensor(y).type);
  if (layout(x).is_row_major()) {
    put(y, y_desc, x);
    end({{"view", [] {}}});
    return;
  }
  put(y, y_desc);
  touch(x);
  touch(y);
  const memory from = bind(x);
  const memory to = bind(y, row_major(program_.tensor(x).type));
  end({{"reorder", executes(dnnl::reorder(from, to), {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}})}});
}

void OnednnPlan::compile_loss(int op) {
  const Op& that = op_at(op);
  const TensorId x = that.inputs[0];
  begin({op});
  const bool softmax = std::holds_alternative<SoftmaxCrossEntropy>(that.kind) ||
                       std::holds_alternative<SoftmaxCrossEntropyBackward>(that.kind);
  const memory::desc x_desc = softmax ? row_major(program_.tensor(x).type) : layout(x).desc();
  for (const TensorId id : that.outputs) {
    const TensorType& type = program_.tensor(id).type;
    put(id, type.shape.empty() ? row_major(type) : x_desc);
  }
  for (const TensorId id : that.inputs) touch(id);
  for (const TensorId id : that.outputs) touch(id);
  const memory from = bind_as(x, x_desc);
  const auto values = [from] { return static_cast<const float*>(from.get_data_handle()); };
  const TensorId y = that.outputs[0];
  const int64_t count = element_count(program_.tensor(x).type.shape);
  const int64_t stored = layout(x).stored_elements();
  const int64_t rows = program_.tensor(x).type.shape[0];
  const TensorId target = softmax ? that.inputs[1] : kNoTensor;
  const auto targets = [this, target] { return reinterpret_cast<const int32_t*>(bytes(target)); };
  std::function<void()> run;
  if (std::holds_alternative<SoftmaxCrossEntropy>(that.kind)) {
    const TensorId probabilities = that.outputs[1];
    run = [=, this] { *data(y) = softmax_cross_entropy(values(), targets(), data(probabilities), rows, count / rows); };
  } else if (std::holds_alternative<SoftmaxCrossEntropyBackward>(that.kind)) {
    run = [=, this] { softmax_cross_entropy_backward(values(), targets(), data(y), rows, count / rows); };
  } else if (std::holds_alternative<MeanSquare>(that.kind)) {
    run = [=, this] { *data(y) = mean_square(values(), count, stored); };
  } else {
    run = [=, this] { mean_square_backward(values(), data(y), count, stored); };
  }
  end({{"loop:" + std::string(name_of(that.kind)), std::move(run)}});
}

// Parameters, states and statistics are replaced where they lie.
void OnednnPlan::compile_update(int op) {
  const Op& that = op_at(op);
  const std::vector<TensorId>& in = that.inputs;
  begin({op});
  if (const auto* kind = std::get_if<RunningStatistics>(&that.kind)) {
    for (size_t s = 0; s < 2; ++s) put(that.outputs[s], layout(in[s]).desc(), in[s]);
    for (const TensorId id : in) touch(id);
    const auto count = static_cast<double>(kind->count);
    const int64_t channels = layout(in[0]).stored_elements();
    const double momentum = kind->momentum;
    end({{"loop:running_statistics", [=, this] {
            blend(data(in[0]), data(in[2]), 1 - momentum, momentum, channels);
            blend(data(in[1]), data(in[3]), 1 - momentum, momentum * count / (count - 1), channels);
          }}});
    return;
  }
  const Optimizer optimizer = std::get<Update>(that.kind).optimizer;
  const TensorId w = in[0];
  const memory::desc w_desc = layout(w).desc();
  put(that.outputs[0], w_desc, w);
  for (size_t s = 3; s < in.size(); ++s) {
    put(in[s], w_desc);
    put(that.outputs[s - 2], w_desc, in[s]);
  }
  const memory gradient = bind_as(in[1], w_desc);
  const int64_t count = layout(w).stored_elements();
  for (const TensorId id : in) touch(id);
  for (const TensorId id : that.outputs) touch(id);
  end({{"loop:" + std::string(name_of(optimizer)), [=, this] {
          float* states[2] = {};
          for (size_t s = 3; s < in.size(); ++s) states[s - 3] = data(in[s]);
          update(optimizer, data(w), static_cast<const float*>(gradient.get_data_handle()), states,
                 data(program_.scalars), count);
        }}});
}

}  // namespace triphase
