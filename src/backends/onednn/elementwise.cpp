// SPDX-License-Identifier: Apache-2.0
// Compiling what runs element by element in own loops: ReLU alone and backward, sums, views, losses and updates. Where
// an operand dies with the op, the result takes its place.
#include "backends/onednn/kernels.h"
#include "backends/onednn/plan.h"

namespace triphase {

using dnnl::memory;

namespace {

template <class T>
const T* elements(const memory& m) {
  return static_cast<const T*>(m.get_data_handle());
}

}  // namespace

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
  const auto loop = [&](const std::string& name, auto run) {
    end({{own_loop(name), [=, dtype = type(y).dtype] { with_kept_type(dtype, run); }}});
  };
  if (std::holds_alternative<Relu>(that.kind)) {
    loop("relu", [=, this]<class T>() { relu(elements<T>(first), data<T>(y), count); });
  } else if (relu_backwards) {
    loop("relu_backward",
         [=, this]<class T>() { relu_backward(elements<T>(first), elements<T>(second), data<T>(y), count); });
  } else if (std::holds_alternative<Add>(that.kind)) {
    loop("add", [=, this]<class T>() { add(elements<T>(first), elements<T>(second), data<T>(y), count); });
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
  const TensorId y = that.outputs[0];
  const int64_t count = element_count(program_.tensor(x).type.shape);
  const int64_t stored = layout(x).stored_elements();
  const int64_t rows = program_.tensor(x).type.shape[0];
  const TensorId target = softmax ? that.inputs[1] : kNoTensor;
  const auto loop = [&](auto run) {
    end({{own_loop(std::string(name_of(that.kind))), [=, dtype = type(x).dtype] { with_kept_type(dtype, run); }}});
  };
  if (std::holds_alternative<SoftmaxCrossEntropy>(that.kind)) {
    const TensorId probabilities = that.outputs[1];
    loop([=, this]<class T>() {
      *data(y) =
          softmax_cross_entropy(elements<T>(from), data<int32_t>(target), data<T>(probabilities), rows, count / rows);
    });
  } else if (std::holds_alternative<SoftmaxCrossEntropyBackward>(that.kind)) {
    loop([=, this]<class T>() {
      softmax_cross_entropy_backward(elements<T>(from), data<int32_t>(target), data<T>(y), rows, count / rows);
    });
  } else if (std::holds_alternative<MeanSquare>(that.kind)) {
    loop([=, this]<class T>() { *data(y) = mean_square(elements<T>(from), count, stored); });
  } else {
    loop([=, this]<class T>() { mean_square_backward(elements<T>(from), data<T>(y), count, stored); });
  }
}

// Replaced where they lie.
void OnednnPlan::compile_statistics(int op) {
  const std::vector<TensorId>& in = op_at(op).inputs;
  const auto& kind = std::get<RunningStatistics>(op_at(op).kind);
  begin({op});
  for (size_t s = 0; s < 2; ++s) put(op_at(op).outputs[s], layout(in[s]).desc(), in[s]);
  for (const TensorId id : in) touch(id);
  const auto count = static_cast<double>(kind.count);
  const int64_t channels = layout(in[0]).stored_elements();
  const double momentum = kind.momentum;
  end({{own_loop("running_statistics"), [=, this] {
          blend(data(in[0]), data(in[2]), 1 - momentum, momentum, channels);
          blend(data(in[1]), data(in[3]), 1 - momentum, momentum * count / (count - 1), channels);
        }}});
}

// Parameters and states are replaced where they lie. A copy that lies as its parameter does is written by the same
// loop, and where its rows lie in pairs they are interleaved after it; any other is written by a reorder.
void OnednnPlan::compile_update(int op) {
  const std::vector<TensorId>& in = op_at(op).inputs;  // w, gradient, scalars, states
  const std::vector<TensorId>& out = op_at(op).outputs;
  const Optimizer optimizer = std::get<Update>(op_at(op).kind).optimizer;
  const TensorId w = in[0];
  const memory::desc w_desc = layout(w).desc();
  const std::vector<int>& readers = program_.tensor(out[0]).readers;
  const bool copied = readers.size() == 1 && std::holds_alternative<Convert>(op_at(readers[0]).kind);
  const TensorId copy = copied ? op_at(readers[0]).outputs[0] : kNoTensor;
  begin(copied ? std::vector<int>{op, readers[0]} : std::vector<int>{op});
  put(out[0], w_desc, w);
  for (size_t s = 3; s < in.size(); ++s) {
    put(in[s], w_desc);
    put(out[s - 2], w_desc, in[s]);
  }
  if (copied) put_copy(copy, w);
  const auto lies_as_w = [&](TensorId id) { return layout(id).desc() == same_order(w_desc, type(id).dtype); };
  const bool in_pairs = copied && has_paired_rows(w_desc, layout(copy).desc());
  const bool together = copied && lies_as_w(in[1]) && (in_pairs || lies_as_w(copy));
  const memory gradient = together ? bind(in[1]) : bind_as(in[1], w_desc);
  std::function<void()> convert;
  if (copied && !together) {
    const memory from = bind(w);
    const memory to = bind(copy);
    convert = executes(dnnl::reorder(from, to), {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}});
  }
  const int64_t count = layout(w).stored_elements();
  for (const TensorId id : in) touch(id);
  for (const TensorId id : out) touch(id);
  if (copied) touch(copy);
  const std::string name =
      std::string(name_of(optimizer)) + (convert ? "+reorder" : "") + (together && in_pairs ? "+interleave" : "");
  end({{own_loop(name), [=, this] {
          float* states[kMostStates] = {};
          for (size_t s = 3; s < in.size(); ++s) states[s - 3] = data(in[s]);
          if (together) {
            update(optimizer, data(w), elements<BF16>(gradient), states, data(program_.scalars), data<BF16>(copy),
                   count);
            if (in_pairs) interleave_rows(data<BF16>(copy), count);
          } else {
            update(optimizer, data(w), elements<float>(gradient), states, data(program_.scalars),
                   static_cast<float*>(nullptr), count);
          }
          if (convert) convert();
        }}});
}

void OnednnPlan::put_copy(TensorId copy, TensorId parameter) {
  const TensorId replaced = previous_version(program_, copy);
  if (replaced != kNoTensor) {
    put(copy, layout(replaced).desc(), replaced);
  } else {  // a kernel alone
    put(copy, usual_weights(type(copy)).value_or(*same_order(layout(parameter).desc(), type(copy).dtype)));
  }
}

// A copy apart from its parameter's update.
void OnednnPlan::compile_convert(int op) {
  const TensorId x = op_at(op).inputs[0];
  const TensorId copy = op_at(op).outputs[0];
  begin({op});
  put_copy(copy, x);
  touch(x);
  touch(copy);
  const memory from = bind(x);
  const memory to = bind(copy);
  end({{"reorder", executes(dnnl::reorder(from, to), {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}})}});
}

}  // namespace triphase
