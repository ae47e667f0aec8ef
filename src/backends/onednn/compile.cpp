// SPDX-License-Identifier: Apache-2.0
// Compiling: the walk over the program, fusion into products, and the linear layers.
#include "backends/onednn/kernels.h"
#include "backends/onednn/plan.h"
#include "backends/onednn/products.h"

namespace triphase {

using dnnl::memory;
using dnnl::primitive_attr;
using Dims = memory::dims;

namespace {

memory::desc transposed(const memory::desc& matrix) {
  const Dims dims = matrix.get_dims();
  const Dims strides = matrix.get_strides();
  return {Dims{dims[1], dims[0]}, matrix.get_data_type(), Dims{strides[1], strides[0]}};
}

// Above as many rows a library's product, which also blocks over rows, has always been the faster.
constexpr int64_t kMostOwnRows = 512;

// A gradient of as many bytes is out of the caches before the update reads it, so that its stores may pass them.
constexpr int64_t kStreamFrom = 32 << 20;

bool may_use_own_products(const ProductShape& shape, DType dtype) {
  return dtype == DType::kF32 && have_products() && shape.rows <= kMostOwnRows;
}

float* floats(const memory& m) { return static_cast<float*>(m.get_data_handle()); }

}  // namespace

void OnednnPlan::compile() {
  for (int op = 0; op < static_cast<int>(program_.ops.size()); ++op) {
    if (group_of_op_[static_cast<size_t>(op)] >= 0) continue;  // fused into an earlier one
    place_given(op);
    std::visit(Overloaded{
                   [&](const MatMul& kind) {
                     if (op_at(op).phase == Phase::kForward) {
                       compile_forward_product(op);
                     } else if (kind.transpose_a) {
                       compile_matmul_backward_weights(op, {});
                     } else {
                       compile_matmul_backward_data(op);
                     }
                   },
                   [&](const Conv2d&) { compile_forward_product(op); },
                   [&](const Conv2dBackwardData&) { compile_conv_backward_data(op); },
                   [&](const Conv2dBackwardWeights&) { compile_conv_backward_weights(op, {}); },
                   [&](const BiasGradient&) {
                     // The product's gradient from the same dy is computed in one call with its bias's.
                     for (const int reader : program_.tensor(op_at(op).inputs[0]).readers) {
                       if (op_at(reader).layer != op_at(op).layer) continue;
                       if (std::holds_alternative<Conv2dBackwardWeights>(op_at(reader).kind)) {
                         return compile_conv_backward_weights(reader, op);
                       }
                       const auto* product = std::get_if<MatMul>(&op_at(reader).kind);
                       if (product && product->transpose_a) return compile_matmul_backward_weights(reader, op);
                     }
                     throw Unimplemented("a bias gradient apart from a product's");
                   },
                   [&](const AddBias&) { throw Unimplemented("a bias apart from a product"); },
                   [&](const MaxPool2d& kind) { compile_pool(op, kind.window, dnnl::algorithm::pooling_max); },
                   [&](const MaxPool2dBackward& kind) {
                     if (compile_pool_and_relu_backward(op)) return;
                     compile_pool_backward(op, kind.window, dnnl::algorithm::pooling_max);
                   },
                   [&](const AvgPool2d& kind) {
                     compile_pool(op, kind.window,
                                  kind.count_include_pad ? dnnl::algorithm::pooling_avg_include_padding
                                                         : dnnl::algorithm::pooling_avg_exclude_padding);
                   },
                   [&](const AvgPool2dBackward& kind) {
                     compile_pool_backward(op, kind.pool.window,
                                           kind.pool.count_include_pad ? dnnl::algorithm::pooling_avg_include_padding
                                                                       : dnnl::algorithm::pooling_avg_exclude_padding);
                   },
                   [&](const BatchNorm2d&) { compile_batch_norm(op); },
                   [&](const BatchNorm2dBackward&) { compile_batch_norm_backward(op); },
                   [&](const Reshape&) { compile_reshape(op); },
                   [&](const Update&) { compile_update(op); },
                   [&](const Convert&) { compile_convert(op); },
                   [&](const RunningStatistics&) { compile_statistics(op); },
                   [&](const SoftmaxCrossEntropy&) { compile_loss(op); },
                   [&](const SoftmaxCrossEntropyBackward&) { compile_loss(op); },
                   [&](const MeanSquare&) { compile_loss(op); },
                   [&](const MeanSquareBackward&) { compile_loss(op); },
                   [&](const auto&) { compile_pointwise(op); },
               },
               op_at(op).kind);
  }
}

void OnednnPlan::place_given(int op) {
  const Op& that = op_at(op);
  const auto* product = std::get_if<MatMul>(&that.kind);
  const bool chooses = (product && that.phase == Phase::kForward) || std::holds_alternative<Conv2d>(that.kind) ||
                       std::holds_alternative<Conv2dBackwardData>(that.kind) ||
                       std::holds_alternative<Conv2dBackwardWeights>(that.kind) ||
                       std::holds_alternative<BiasGradient>(that.kind);  // with the product that it is fused into
  if (chooses) return;
  if (std::holds_alternative<Update>(that.kind)) return place_given_to_update(op);
  for (const TensorId id : that.inputs) {
    const Tensor& tensor = program_.tensor(id);
    if (materialised(id) || tensor.producer >= 0 || tensor.role == Role::kState) continue;
    if (product && tensor.role == Role::kParameter) {
      put(id, column_major(tensor.type));
    } else if (id == program_.input) {
      put(id, row_major(tensor.type));
    } else {
      put(id, usual_layout(tensor.type));
    }
  }
}

// In the order of its gradient, so that both are read alike.
void OnednnPlan::place_given_to_update(int op) {
  const TensorId w = op_at(op).inputs[0];
  const TensorId gradient = op_at(op).inputs[1];
  if (!materialised(gradient)) put(gradient, usual_weights(type(gradient), true).value_or(row_major(type(gradient))));
  if (!materialised(program_.scalars)) put(program_.scalars, row_major(type(program_.scalars)));
  if (materialised(w)) return;
  const memory::desc& like = layout(gradient).desc();
  put(w, same_order(like, DType::kF32).value_or(row_major({like.get_dims(), DType::kF32})));
}

void OnednnPlan::compile_forward_product(int op) {
  // A bias, and then a ReLU, that alone read the product run within it.
  std::vector<int> ops = {op};
  TensorId output = op_at(op).outputs[0];
  TensorId bias = kNoTensor;
  bool relu = false;
  const auto only_reader = [&]() -> int {
    const std::vector<int>& readers = program_.tensor(output).readers;
    return readers.size() == 1 && op_at(readers[0]).phase == Phase::kForward ? readers[0] : -1;
  };
  if (const int reader = only_reader(); reader >= 0 && std::holds_alternative<AddBias>(op_at(reader).kind)) {
    bias = op_at(reader).inputs[1];
    ops.push_back(reader);
    output = op_at(reader).outputs[0];
  }
  if (const int reader = only_reader(); reader >= 0 && std::holds_alternative<Relu>(op_at(reader).kind)) {
    relu = true;
    ops.push_back(reader);
    output = op_at(reader).outputs[0];
  }
  if (bias != kNoTensor && !materialised(bias)) put(bias, row_major(type(bias)));
  if (std::holds_alternative<MatMul>(op_at(op).kind)) {
    compile_matmul(op, std::move(ops), bias, output, relu);
  } else {
    compile_conv(op, std::move(ops), bias, output, relu);
  }
}

// y = x wᵀ (+ b, ReLU).   x: [N, C]  w: [K, C], column-major  y: [N, K]
void OnednnPlan::compile_matmul(int op, std::vector<int> ops, TensorId bias, TensorId output, bool relu) {
  const TensorId x = op_at(op).inputs[0];
  const TensorId w = op_at(op).inputs[1];
  if (program_.tensor(w).role != Role::kParameter && program_.tensor(w).role != Role::kCopy)
    throw Unimplemented("a product of two computed matrices");
  if (!materialised(x)) put(x, row_major(program_.tensor(x).type));
  if (!materialised(w)) put(w, column_major(type(w)));
  begin(std::move(ops));
  put(output, row_major(program_.tensor(output).type));
  for (const TensorId id : {x, w, output}) touch(id);
  const int64_t features = program_.tensor(w).type.shape[0];
  const primitive_attr attr = primitive_attributes(relu);
  const memory::desc x_desc = row_major(program_.tensor(x).type);
  const memory::desc y_desc = layout(output).desc();
  const memory::desc w_desc = layout(w).desc();
  const memory x_memory = bind_as(x, x_desc);
  Args args = {{DNNL_ARG_SRC, x_memory}, {DNNL_ARG_DST, bind(output)}};

  const memory::desc row = bias == kNoTensor ? memory::desc() : row_major({{1, features}, dtype()});
  const dnnl::matmul::primitive_desc product(engine_, x_desc, transposed(w_desc), row, y_desc, attr);
  const dnnl::inner_product_forward::primitive_desc inner(engine_, dnnl::prop_kind::forward_training, x_desc, w_desc,
                                                          bias == kNoTensor ? memory::desc() : layout(bias).desc(),
                                                          y_desc, attr);
  Args product_args = args;
  Args inner_args = args;
  product_args[DNNL_ARG_WEIGHTS] = bind(w, transposed(w_desc));
  inner_args[DNNL_ARG_WEIGHTS] = bind(w);
  if (bias != kNoTensor) {
    touch(bias);
    product_args[DNNL_ARG_BIAS] = bind(bias, row);
    inner_args[DNNL_ARG_BIAS] = bind(bias);
  }
  product_args[DNNL_ARG_SCRATCHPAD] = scratch(product.scratchpad_desc());
  inner_args[DNNL_ARG_SCRATCHPAD] = scratch(inner.scratchpad_desc());
  std::vector<Candidate> candidates = {
      {"matmul:" + std::string(product.impl_info_str()), executes(dnnl::matmul(product), product_args)},
      {"inner_product:" + std::string(inner.impl_info_str()),
       executes(dnnl::inner_product_forward(inner), inner_args)}};
  const ProductShape shape{x_desc.get_dims()[0], x_desc.get_dims()[1], features};
  if (may_use_own_products(shape, dtype())) {
    const memory own = scratch(vector_of(product_scratch(shape, options_.threads)));
    candidates.push_back({own_loop("product"),
                          [=, this] {
                            product_forward(shape, floats(x_memory), data(w), bias == kNoTensor ? nullptr : data(bias),
                                            relu, data(output), floats(own));
                          },
                          /*parts_weights=*/true});
  }
  end(std::move(candidates));
}

// dx = dy w.   dy: [N, K]  w: [K, C], column-major  dx: [N, C]
void OnednnPlan::compile_matmul_backward_data(int op) {
  const TensorId dy = op_at(op).inputs[0];
  const TensorId w = op_at(op).inputs[1];
  const TensorId dx = op_at(op).outputs[0];
  begin({op});
  put(dx, row_major(program_.tensor(dx).type));
  for (const TensorId id : {dy, w, dx}) touch(id);
  const primitive_attr attr = primitive_attributes();
  const memory::desc dy_desc = row_major(program_.tensor(dy).type);
  const memory::desc w_desc = layout(w).desc();
  const memory::desc dx_desc = layout(dx).desc();
  const memory dy_memory = bind_as(dy, dy_desc);
  const memory dx_memory = bind(dx);
  const dnnl::matmul::primitive_desc product(engine_, dy_desc, w_desc, dx_desc, attr);
  const dnnl::inner_product_forward::primitive_desc hint(engine_, dnnl::prop_kind::forward_training, dx_desc, w_desc,
                                                         dy_desc, attr);
  const dnnl::inner_product_backward_data::primitive_desc inner(engine_, dx_desc, w_desc, dy_desc, hint, attr);
  const Args product_args = {{DNNL_ARG_SRC, dy_memory},
                             {DNNL_ARG_WEIGHTS, bind(w)},
                             {DNNL_ARG_DST, dx_memory},
                             {DNNL_ARG_SCRATCHPAD, scratch(product.scratchpad_desc())}};
  const Args inner_args = {{DNNL_ARG_DIFF_DST, dy_memory},
                           {DNNL_ARG_WEIGHTS, bind(w)},
                           {DNNL_ARG_DIFF_SRC, dx_memory},
                           {DNNL_ARG_SCRATCHPAD, scratch(inner.scratchpad_desc())}};
  std::vector<Candidate> candidates = {
      {"inner_product:" + std::string(inner.impl_info_str()),
       executes(dnnl::inner_product_backward_data(inner), inner_args)},
      {"matmul:" + std::string(product.impl_info_str()), executes(dnnl::matmul(product), product_args)}};
  const ProductShape shape{dx_desc.get_dims()[0], dx_desc.get_dims()[1], dy_desc.get_dims()[1]};
  if (may_use_own_products(shape, dtype())) {
    const memory own = scratch(vector_of(product_scratch(shape, options_.threads)));
    candidates.push_back(
        {own_loop("product"),
         [=, this] { product_backward_data(shape, floats(dy_memory), data(w), data(dx), floats(own)); },
         /*parts_weights=*/true});
  }
  end(std::move(candidates));
}

// dw = dyᵀ x, db = Σ_n dy.   dy: [N, K]  x: [N, C]  dw: [K, C], column-major, so computed as dwᵀ = xᵀ dy  db: [K]
void OnednnPlan::compile_matmul_backward_weights(int op, std::optional<int> bias_op) {
  place_given(op);
  const TensorId dy = op_at(op).inputs[0];
  const TensorId x = op_at(op).inputs[1];
  const TensorId dw = op_at(op).outputs[0];
  const TensorId db = bias_op ? op_at(*bias_op).outputs[0] : kNoTensor;
  const Shape& dw_shape = program_.tensor(dw).type.shape;
  const int64_t rows = program_.tensor(dy).type.shape[0];
  const int64_t features = dw_shape[0];
  begin(bias_op ? std::vector<int>{*bias_op, op} : std::vector<int>{op});
  put(dw, column_major(type(dw)));
  for (const TensorId id : {dy, x, dw}) touch(id);
  if (db != kNoTensor) {
    put(db, row_major(type(db)));
    touch(db);
  }
  const primitive_attr attr = primitive_attributes();
  const memory::desc dy_desc = row_major(program_.tensor(dy).type);
  const memory::desc x_desc = row_major(program_.tensor(x).type);
  const memory::desc dw_desc = layout(dw).desc();
  const memory dy_memory = bind_as(dy, dy_desc);
  const memory x_memory = bind_as(x, x_desc);

  const memory::desc no_bias;
  const memory::desc& db_desc = db == kNoTensor ? no_bias : layout(db).desc();
  const dnnl::inner_product_forward::primitive_desc hint(engine_, dnnl::prop_kind::forward_training, x_desc, dw_desc,
                                                         db_desc, dy_desc, attr);
  const dnnl::inner_product_backward_weights::primitive_desc inner(engine_, x_desc, dw_desc, db_desc, dy_desc, hint,
                                                                   attr);
  Args inner_args = {{DNNL_ARG_SRC, x_memory},
                     {DNNL_ARG_DIFF_DST, dy_memory},
                     {DNNL_ARG_DIFF_WEIGHTS, bind(dw)},
                     {DNNL_ARG_SCRATCHPAD, scratch(inner.scratchpad_desc())}};
  if (db != kNoTensor) inner_args[DNNL_ARG_DIFF_BIAS] = bind(db);

  const dnnl::matmul::primitive_desc product(engine_, transposed(x_desc), dy_desc, transposed(dw_desc), attr);
  const Args product_args = {{DNNL_ARG_SRC, same_bytes(x_memory, transposed(x_desc))},
                             {DNNL_ARG_WEIGHTS, dy_memory},
                             {DNNL_ARG_DST, bind(dw, transposed(dw_desc))},
                             {DNNL_ARG_SCRATCHPAD, scratch(product.scratchpad_desc())}};
  const auto run_product = executes(dnnl::matmul(product), product_args);
  std::vector<Candidate> candidates = {{"inner_product:" + std::string(inner.impl_info_str()),
                                        executes(dnnl::inner_product_backward_weights(inner), inner_args)},
                                       {"matmul:" + std::string(product.impl_info_str()), [=, this] {
                                          run_product();
                                          if (db == kNoTensor) return;
                                          with_kept_type(dtype(), [&]<class T>() {
                                            bias_gradient(static_cast<const T*>(dy_memory.get_data_handle()),
                                                          data<T>(db), rows, features);
                                          });
                                        }}};
  const ProductShape shape{rows, x_desc.get_dims()[1], features};
  if (may_use_own_products(shape, dtype())) {
    const memory own = scratch(vector_of(product_scratch(shape, options_.threads)));
    const auto run_own = [=, this](Stores stores) {
      product_backward_weights(shape, floats(x_memory), floats(dy_memory), data(dw),
                               db == kNoTensor ? nullptr : data(db), stores, floats(own));
    };
    candidates.push_back({own_loop("product"), [=] { run_own(Stores::kCached); }, /*parts_weights=*/true});
    if (layout(dw).bytes() >= kStreamFrom) {
      candidates.push_back({own_loop("product", /*streams=*/true), [=] { run_own(Stores::kStreaming); }});
    }
  }
  end(std::move(candidates));
}

}  // namespace triphase
