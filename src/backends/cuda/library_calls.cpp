// SPDX-License-Identifier: Apache-2.0
// Products and convolutions: a library's calls, with what follows them in the call or after it.
#include <algorithm>

#include "backends/cuda/compile.h"

namespace triphase::cuda {

template <class Work, class Operands>
void CudaPlan::end_call(Work work, std::function<Operands()> operands, Formulation<Operands> otherwise) {
  std::vector<Formulation<Operands>> ways;
  std::exception_ptr refusal;
  const auto add = [&](Formulation<Operands> way) {
    if (succeeds([&] { way.call = device_->prepare(work); }, refusal)) ways.push_back(std::move(way));
  };
  add({nullptr, ""});
  if (work.epilogue != Epilogue::kNone) {
    work.epilogue = Epilogue::kNone;
    add(std::move(otherwise));
  }
  if (ways.empty()) std::rethrow_exception(refusal);
  if (formulation_) ways = {ways[std::min(*formulation_, ways.size() - 1)]};
  int64_t workspace_bytes = 0;
  for (const auto& way : ways) workspace_bytes = std::max(workspace_bytes, way.call->workspace_bytes());
  const std::function<std::byte*()> space = scratch(workspace_bytes);
  const auto run = [operands, space](const Formulation<Operands>& way) {
    way.call->run(operands(), space());
    if (way.then) way.then();
  };
  const auto fastest = std::make_shared<Formulation<Operands>>(ways.front());
  pending_.choose = [this, operands, space, run, ways, fastest] {
    std::vector<Formulation<Operands>> running;
    std::vector<Piece> pieces;
    std::exception_ptr failure;
    for (const auto& way : ways) {
      if (!succeeds([&] { way.call->tune(operands(), space()); }, failure)) continue;
      running.push_back(way);
      pieces.push_back([run, way] { run(way); });
    }
    if (running.empty()) std::rethrow_exception(failure);
    *fastest = running.size() == 1 ? running.front() : running[device_->fastest(pieces)];
    return Chosen{fastest->call->implementation() + fastest->suffix, fastest->more_bytes};
  };
  end(fastest->call->implementation() + fastest->suffix, [run, fastest] { run(*fastest); });
}

CudaPlan::Fused CudaPlan::fused(int op) const {
  Fused found{{op}, op_at(op).outputs[0]};
  const auto next_is = [&](auto wanted) {
    const int reader = op_at(op).phase == Phase::kForward ? only_reader(found.y, Phase::kForward) : -1;
    if (reader < 0 || !std::holds_alternative<decltype(wanted)>(op_at(reader).kind)) return false;
    found.ops.push_back(reader);
    found.y = op_at(reader).outputs[0];
    return true;
  };
  if (next_is(AddBias{})) found.bias = op_at(found.ops.back()).inputs[1];
  found.relu = next_is(Relu{});
  return found;
}

template <class Operands>
CudaPlan::Formulation<Operands> CudaPlan::own_epilogue(const Fused& fused) {
  const auto& [ops, y, bias, relu] = fused;
  const char* name = bias == kNoTensor ? "+kernel:relu" : relu ? "+kernel:add_bias+relu" : "+kernel:add_bias";
  const auto launch = [this, y = y, bias = bias, relu = relu] {
    if (bias != kNoTensor) return launch_add_bias(y, bias, y, relu);
    with_float_type(dtype(y), [&]<class T>() { device_->launch(kernels::Relu<T>{data<T>(y), data<T>(y)}, count(y)); });
  };
  return {nullptr, name, launch, 2 * size_in_bytes(program_.tensor(y).type)};
}

void CudaPlan::compile_product(int op, const MatMul& kind) {
  const TensorId a = op_at(op).inputs[0];
  const TensorId b = op_at(op).inputs[1];
  const Fused group = fused(op);
  const Shape& a_shape = shape(a);
  const Shape& y_shape = shape(group.y);
  const Product product{.m = y_shape[0],
                        .n = y_shape[1],
                        .k = kind.transpose_a ? a_shape[0] : a_shape[1],
                        .transpose_a = kind.transpose_a,
                        .transpose_b = kind.transpose_b,
                        .epilogue = group.epilogue(),
                        .precision = program_.precision};
  begin(group.ops);
  put(group.y);
  for (const TensorId id : {a, b, group.y}) touch(id);
  if (group.bias != kNoTensor) touch(group.bias);
  end_call<Product, ProductOperands>(
      product,
      [this, a, b, y = group.y, bias = group.bias] {
        return ProductOperands{bytes(a), bytes(b), bytes(y), bias == kNoTensor ? nullptr : bytes(bias)};
      },
      own_epilogue<ProductOperands>(group));
}

// With the product of the weights' gradient from the same dy, as its epilogue; else by an own kernel.
void CudaPlan::compile_bias_gradient(int op) {
  const TensorId dy = op_at(op).inputs[0];
  const TensorId db = op_at(op).outputs[0];
  const auto gradient = [=, this] {
    with_float_type(dtype(dy), [&]<class T>() {
      device_->launch(kernels::BiasGradient<T>{data<T>(dy), data<T>(db), channels(dy), inner(dy)}, channels(dy),
                      count(dy) / channels(dy));
    });
  };
  for (const int reader : program_.tensor(dy).readers) {
    const auto* product = std::get_if<MatMul>(&op_at(reader).kind);
    if (product == nullptr || !product->transpose_a || op_at(reader).layer != op_at(op).layer) continue;
    if (op_at(reader).inputs[0] != dy || op_at(reader).phase != op_at(op).phase) continue;
    const TensorId x = op_at(reader).inputs[1];
    const TensorId dw = op_at(reader).outputs[0];
    begin({op, reader});
    put(db);
    put(dw);
    for (const TensorId id : {dy, x, dw, db}) touch(id);
    end_call<Product, ProductOperands>(
        {.m = shape(dw)[0],
         .n = shape(dw)[1],
         .k = shape(dy)[0],
         .transpose_a = true,
         .transpose_b = product->transpose_b,
         .epilogue = Epilogue::kBiasGradient,
         .precision = program_.precision},
        [=, this] {
          return ProductOperands{bytes(dy), bytes(x), bytes(dw), bytes(db)};
        },
        {nullptr, "+kernel:bias_gradient", gradient, size_in_bytes(program_.tensor(dy).type)});
    return;
  }
  begin({op});
  put(db);
  touch(dy);
  touch(db);
  end(own(op_at(op).kind), gradient);
}

void CudaPlan::compile_convolution(int op, const Conv2d& conv) {
  const TensorId x = op_at(op).inputs[0];
  const TensorId w = op_at(op).inputs[1];
  const Fused group = fused(op);
  begin(group.ops);
  put(group.y);
  for (const TensorId id : {x, w, group.y}) touch(id);
  if (group.bias != kNoTensor) touch(group.bias);
  end_call<Convolution, ConvolutionOperands>(
      {Convolution::Direction::kForward, conv, shape(x), shape(w), shape(group.y), program_.precision,
       lies_channels_last(x), group.epilogue()},
      [this, x, w, y = group.y, bias = group.bias] {
        return ConvolutionOperands{bytes(x), bytes(w), bytes(y), bias == kNoTensor ? nullptr : bytes(bias)};
      },
      own_epilogue<ConvolutionOperands>(group));
}

void CudaPlan::compile_convolution(int op, Convolution::Direction direction, const Conv2d& conv, TensorId x, TensorId w,
                                   TensorId y) {
  begin({op});
  put(op_at(op).outputs[0]);
  for (const TensorId id : {x, w, y}) touch(id);
  end_call<Convolution, ConvolutionOperands>(
      {direction, conv, shape(x), shape(w), shape(y), program_.precision, lies_channels_last(x)}, [=, this] {
        return ConvolutionOperands{bytes(x), bytes(w), bytes(y)};
      });
}

}  // namespace triphase::cuda
