// SPDX-License-Identifier: Apache-2.0
// Compiling: the walk over the program, and what each kind of op becomes.
#include <algorithm>

#include "backends/cuda/plan.h"
#include "core/elements.h"

namespace triphase::cuda {

namespace {

// Parameters of at most as many elements are updated together: alone, launching takes longer than the update.
constexpr int64_t kMostTogether = 1 << 20;
// A mean of many taps is shared by threads, unless as many means are computed as keep a GPU busy while each waits.
constexpr int64_t kManyTaps = 8;
constexpr int64_t kManyThreads = 1 << 15;

// As many as one kernel takes.
constexpr size_t kMostUpdates = kernels::Update<Sgd, float>::kMostParts;

// Whether blocks of two by two inputs share their windows, two along each dimension at most.
bool in_blocks(const Window& window) {
  return window.stride == std::array<int64_t, 2>{2, 2} && window.kernel[0] <= 4 && window.kernel[1] <= 4;
}

Implementation own(const OpKind& kind) { return own_kernel(std::string(name_of(kind))); }

}  // namespace

void CudaPlan::compile(int op) {
  using Direction = Convolution::Direction;
  const std::vector<TensorId>& in = op_at(op).inputs;
  const std::vector<TensorId>& out = op_at(op).outputs;
  std::visit(Overloaded{
                 [&](const MatMul& kind) { compile_product(op, kind); },
                 [&](const AddBias&) { compile_add_bias(op); },
                 [&](const BiasGradient&) { compile_bias_gradient(op); },
                 [&](const Conv2d& kind) { compile_convolution(op, kind); },
                 [&](const Conv2dBackwardData& kind) {
                   compile_convolution(op, Direction::kBackwardData, kind.conv, out[0], in[1], in[0]);
                 },
                 [&](const Conv2dBackwardWeights& kind) {
                   compile_convolution(op, Direction::kBackwardWeights, kind.conv, in[1], out[0], in[0]);
                 },
                 [&](const Relu&) {
                   begin({op});
                   put_over(out[0], in[0], op);
                   end_elementwise(op, out[0], [=, this]<class T>() {
                     return kernels::Relu<T>{data<T>(in[0]), data<T>(out[0])};
                   });
                 },
                 [&](const ReluBackward&) {
                   begin({op});
                   put_over(out[0], in[0], op);
                   end_elementwise(op, out[0], [=, this]<class T>() {
                     return kernels::ReluBackward<T>{data<T>(in[0]), data<T>(in[1]), data<T>(out[0])};
                   });
                 },
                 [&](const Add&) {
                   begin({op});
                   put_over(out[0], in[0], op);
                   end_elementwise(op, out[0], [=, this]<class T>() {
                     return kernels::Add<T>{data<T>(in[0]), data<T>(in[1]), data<T>(out[0])};
                   });
                 },
                 [&](const MaxPool2d& kind) { compile_max_pool(op, kind.window); },
                 [&](const MaxPool2dBackward& kind) { compile_max_pool_backward(op, kind); },
                 [&](const AvgPool2d& kind) { compile_average_pool(op, kind); },
                 [&](const AvgPool2dBackward& kind) { compile_average_pool_backward(op, kind); },
                 [&](const BatchNorm2d& kind) { compile_batch_norm(op, kind); },
                 [&](const BatchNorm2dBackward& kind) { compile_batch_norm_backward(op, kind); },
                 [&](const RunningStatistics& kind) { compile_running_statistics(op, kind); },
                 [&](const Reshape&) { compile_reshape(op); },
                 [&](const SoftmaxCrossEntropy&) { compile_softmax_cross_entropy(op); },
                 [&](const SoftmaxCrossEntropyBackward& kind) {
                   begin({op});
                   put_over(out[0], in[0], op);
                   const int64_t rows = shape(out[0])[0];
                   const auto scale = static_cast<float>(kind.loss_scale / static_cast<double>(rows));
                   end_elementwise(op, out[0], [=, this]<class T>() {
                     return kernels::SoftmaxCrossEntropyBackward<T>{data<T>(in[0]), data<int32_t>(in[1]),
                                                                    data<T>(out[0]), count(out[0]) / rows, scale};
                   });
                 },
                 [&](const MeanSquare&) { compile_mean_square(op); },
                 [&](const MeanSquareBackward& kind) {
                   begin({op});
                   put_over(out[0], in[0], op);
                   const auto scale = static_cast<float>(2 * kind.loss_scale / static_cast<double>(count(in[0])));
                   end_elementwise(op, out[0], [=, this]<class T>() {
                     return kernels::Scale<T>{data<T>(in[0]), data<T>(out[0]), scale};
                   });
                 },
                 [&](const Update& kind) { compile_update(op, kind); },
                 [&](const Convert&) { compile_convert(op); },
             },
             op_at(op).kind);
}

template <class F>
void CudaPlan::end_elementwise(int op, TensorId over, F make) {
  end_elementwise(op, over, count(over), std::move(make));
}

template <class F>
void CudaPlan::end_elementwise(int op, TensorId over, int64_t elements, F make) {
  for (const TensorId id : op_at(op).inputs) touch(id);
  for (const TensorId id : op_at(op).outputs) touch(id);
  end(own(op_at(op).kind), [this, make = std::move(make), elements, dtype = dtype(over)] {
    with_float_type(dtype, [&]<class T>() { device_->launch(make.template operator()<T>(), elements); });
  });
}

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

void CudaPlan::compile_add_bias(int op) {
  const TensorId x = op_at(op).inputs[0];
  const TensorId bias = op_at(op).inputs[1];
  TensorId y = op_at(op).outputs[0];
  std::vector<int> ops = {op};
  const int reader = only_reader(y, op_at(op).phase);
  const bool relu = reader >= 0 && std::holds_alternative<Relu>(op_at(reader).kind);
  if (relu) {
    ops.push_back(reader);
    y = op_at(reader).outputs[0];
  }
  begin(std::move(ops));
  put_over(y, x, op);
  for (const TensorId id : {x, bias, y}) touch(id);
  end(own_kernel(relu ? "add_bias+relu" : "add_bias"), [=, this] { launch_add_bias(x, bias, y, relu); });
}

void CudaPlan::launch_add_bias(TensorId x, TensorId bias, TensorId y, bool relu) {
  with_float_type(dtype(y), [&]<class T>() {
    device_->launch(kernels::AddBias<T>{data<T>(x), data<T>(bias), data<T>(y), channels(y), inner(y), relu}, count(y));
  });
}

// Elements change their order only between an image with its channels last and what is none.
void CudaPlan::compile_reshape(int op) {
  const TensorId x = op_at(op).inputs[0];
  const TensorId y = op_at(op).outputs[0];
  const bool from_image = lies_channels_last(x);
  const Shape& image = shape(from_image ? x : y);
  begin({op});
  if (from_image == lies_channels_last(y) || image[2] * image[3] == 1) {
    put(y, x);
    end("view", [] {});
    return;
  }
  put(y);
  int64_t channels = image[1];
  int64_t inner = image[2] * image[3];
  if (!from_image) std::swap(channels, inner);
  end_elementwise(op, y, [=, this]<class T>() {
    return kernels::Transpose<T>{data<T>(x), data<T>(y), channels, inner};
  });
}

template <class F>
void CudaPlan::end_pool(int op, const Window& window, TensorId x, TensorId y, F make, ElementsOfPool elements) {
  const int64_t width = with_channels_together(x, []<int kWidth>() { return kWidth; });
  const kernels::Pooling pool = {{shape(x)[2], shape(x)[3]},
                                 {shape(y)[2], shape(y)[3]},
                                 {window.kernel[0], window.kernel[1]},
                                 {window.stride[0], window.stride[1]},
                                 {window.padding[0], window.padding[1]},
                                 lies_channels_last(x) ? channels(x) / width : 1,
                                 shape(x)[0] * (lies_channels_last(x) ? 1 : channels(x))};
  const TensorId result = op_at(op).outputs[0];
  end_elementwise(op, result, elements ? elements(pool) : count(result) / width, [=, this]<class T>() {
    return with_channels_together(
        x, [&]<int kWidth>() -> ElementKernel { return make.template operator()<T, kWidth>(pool); });
  });
}

void CudaPlan::compile_max_pool(int op, const Window& window) {
  const TensorId x = op_at(op).inputs[0];
  const TensorId y = op_at(op).outputs[0];
  const TensorId tap = op_at(op).outputs[1];
  begin({op});
  put(y);
  put(tap);
  end_pool(op, window, x, y, [=, this]<class T, int kWidth>(const kernels::Pooling& pool) -> ElementKernel {
    const auto kernel = [&]<class Tap, int kSide = 0>() {
      return kernels::MaxPool<T, Tap, kWidth, kSide>{pool, packs<T, kWidth>(x), packs<T, kWidth>(y),
                                                     packs<Tap, kWidth>(tap)};
    };
    if (dtype(tap) != DType::kU8) return kernel.template operator()<int32_t>();
    if (window.kernel == std::array<int64_t, 2>{2, 2}) return kernel.template operator()<uint8_t, 2>();
    if (window.kernel == std::array<int64_t, 2>{3, 3}) return kernel.template operator()<uint8_t, 3>();
    return kernel.template operator()<uint8_t>();
  });
}

void CudaPlan::compile_max_pool_backward(int op, const MaxPool2dBackward& kind) {
  const TensorId dy = op_at(op).inputs[0];
  const TensorId tap = op_at(op).inputs[1];
  const TensorId dx = op_at(op).outputs[0];
  begin({op});
  put(dx);
  if (in_blocks(kind.window)) {  // few taps: kept in eight bits
    return end_pool(
        op, kind.window, dx, dy,
        [=, this]<class T, int kWidth>(const kernels::Pooling& pool) -> ElementKernel {
          const auto along = [&](int d) { return kernels::blocks_along(pool, d); };
          return kernels::MaxPoolBackwardInBlocks<T, uint8_t, kWidth>{
              pool, {along(0), along(1)}, packs<T, kWidth>(dy), packs<uint8_t, kWidth>(tap), packs<T, kWidth>(dx)};
        },
        [](const kernels::Pooling& pool) {
          return pool.planes * kernels::blocks_along(pool, 0) * kernels::blocks_along(pool, 1) * int64_t{pool.inner};
        });
  }
  end_pool(op, kind.window, dx, dy, [=, this]<class T, int kWidth>(const kernels::Pooling& pool) -> ElementKernel {
    const auto kernel = [&]<class Tap>() {
      return kernels::MaxPoolBackward<T, Tap, kWidth>{pool, packs<T, kWidth>(dy), packs<Tap, kWidth>(tap),
                                                      packs<T, kWidth>(dx)};
    };
    if (dtype(tap) == DType::kU8) return kernel.template operator()<uint8_t>();
    return kernel.template operator()<int32_t>();
  });
}

void CudaPlan::compile_average_pool(int op, const AvgPool2d& kind) {
  const TensorId x = op_at(op).inputs[0];
  const TensorId y = op_at(op).outputs[0];
  begin({op});
  put(y);
  const int64_t planes = count(y);
  const int64_t area = shape(x)[2] * shape(x)[3];
  const bool whole =
      kind.window.kernel == std::array{shape(x)[2], shape(x)[3]} && kind.window.padding == std::array<int64_t, 2>{};
  if (whole && area >= kManyTaps && planes < kManyThreads) {
    touch(x);
    touch(y);
    end(own(op_at(op).kind), [=, this] {
      with_float_type(dtype(x), [&]<class T>() {
        device_->launch(kernels::PlaneMean<T>{data<T>(x), data<T>(y), lies_channels_last(x) ? channels(x) : 1, area},
                        planes, area);
      });
    });
    return;
  }
  end_pool(op, kind.window, x, y, [=, this]<class T, int kWidth>(const kernels::Pooling& pool) {
    return kernels::AveragePool<T, kWidth>{pool, kind.count_include_pad, packs<T, kWidth>(x), packs<T, kWidth>(y)};
  });
}

void CudaPlan::compile_average_pool_backward(int op, const AvgPool2dBackward& kind) {
  const TensorId dy = op_at(op).inputs[0];
  const TensorId dx = op_at(op).outputs[0];
  begin({op});
  put(dx);
  end_pool(op, kind.pool.window, dx, dy, [=, this]<class T, int kWidth>(const kernels::Pooling& pool) {
    return kernels::AveragePoolBackward<T, kWidth>{pool, kind.pool.count_include_pad, packs<T, kWidth>(dy),
                                                   packs<T, kWidth>(dx)};
  });
}

void CudaPlan::compile_batch_norm(int op, const BatchNorm2d& kind) {
  const std::vector<TensorId> in = op_at(op).inputs;    // x, gamma, beta
  const std::vector<TensorId> out = op_at(op).outputs;  // y, mean, variance
  const TensorId x = in[0];
  begin({op});
  for (const TensorId id : out) put(id);
  for (const TensorId id : in) touch(id);
  for (const TensorId id : out) touch(id);
  touch(x);  // read twice
  const auto epsilon = static_cast<float>(kind.epsilon);
  end(own(op_at(op).kind), [=, this] {
    with_float_type(dtype(x), [&]<class T>() {
      device_->launch(kernels::Moments<T>{data<T>(x), data(out[1]), data(out[2]), channels(x), inner(x)}, channels(x),
                      count(x) / channels(x));
      with_channels_together(x, [&]<int kWidth>() {
        const auto parameters = [&](TensorId id) { return packs<float, kWidth>(id); };
        device_->launch(kernels::Normalise<T, kWidth>{packs<T, kWidth>(x), parameters(in[1]), parameters(in[2]),
                                                      parameters(out[1]), parameters(out[2]), packs<T, kWidth>(out[0]),
                                                      channels(x) / kWidth, inner(x), epsilon},
                        count(x) / kWidth);
      });
    });
  });
}

void CudaPlan::compile_batch_norm_backward(int op, const BatchNorm2dBackward& kind) {
  const std::vector<TensorId> in = op_at(op).inputs;    // dy, x, gamma, mean, variance
  const std::vector<TensorId> out = op_at(op).outputs;  // dgamma, dbeta, maybe dx
  const TensorId dy = in[0];
  const TensorId x = in[1];
  begin({op});
  put(out[0]);
  put(out[1]);
  if (kind.data_gradient) put_over(out[2], dy, op);
  for (const TensorId id : in) touch(id);
  for (const TensorId id : out) touch(id);
  if (kind.data_gradient) {
    touch(dy);  // these two are read twice
    touch(x);
  }
  const auto epsilon = static_cast<float>(kind.epsilon);
  const int64_t terms = count(x) / channels(x);
  end(own(op_at(op).kind), [=, this] {
    with_float_type(dtype(x), [&]<class T>() {
      device_->launch(kernels::NormaliseGradients<T>{data<T>(dy), data<T>(x), data(in[3]), data(in[4]), data(out[0]),
                                                     data(out[1]), channels(x), inner(x), epsilon},
                      channels(x), terms);
      if (out.size() < 3) return;
      with_channels_together(x, [&]<int kWidth>() {
        const auto parameters = [&](TensorId id) { return packs<float, kWidth>(id); };
        device_->launch(
            kernels::NormaliseBackward<T, kWidth>{packs<T, kWidth>(dy), packs<T, kWidth>(x), parameters(in[2]),
                                                  parameters(in[3]), parameters(in[4]), parameters(out[0]),
                                                  parameters(out[1]), packs<T, kWidth>(out[2]), channels(x) / kWidth,
                                                  inner(x), epsilon, 1 / static_cast<float>(terms)},
            count(x) / kWidth);
      });
    });
  });
}

// Replaced where they lie.
void CudaPlan::compile_running_statistics(int op, const RunningStatistics& kind) {
  const std::vector<TensorId> in = op_at(op).inputs;  // running mean and variance, those of the batch
  begin({op});
  for (size_t s = 0; s < 2; ++s) put(op_at(op).outputs[s], in[s]);
  for (const TensorId id : in) touch(id);
  for (const TensorId id : op_at(op).outputs) touch(id);
  const auto values = static_cast<double>(kind.count);
  const auto keep = static_cast<float>(1 - kind.momentum);
  const auto take = static_cast<float>(kind.momentum);
  const auto take_unbiased = static_cast<float>(kind.momentum * values / (values - 1));
  end(own(op_at(op).kind), [=, this] {
    device_->launch(
        kernels::Blend{{data(in[0]), data(in[2]), take}, {data(in[1]), data(in[3]), take_unbiased}, keep, count(in[0])},
        2 * count(in[0]));
  });
}

void CudaPlan::compile_softmax_cross_entropy(int op) {
  const TensorId x = op_at(op).inputs[0];
  const TensorId target = op_at(op).inputs[1];
  const TensorId loss = op_at(op).outputs[0];
  const TensorId probabilities = op_at(op).outputs[1];
  begin({op});
  put(loss);
  put(probabilities);
  for (const TensorId id : {x, target, loss, probabilities}) touch(id);
  const int64_t rows = shape(x)[0];
  const int64_t classes = count(x) / rows;
  if (kernels::SmallSoftmaxCrossEntropy<float>::takes(rows, classes)) {
    return end(own(op_at(op).kind), [=, this] {
      with_float_type(dtype(x), [&]<class T>() {
        device_->launch(kernels::SmallSoftmaxCrossEntropy<T>(data<T>(x), data<int32_t>(target), data<T>(probabilities),
                                                             data(loss), rows, classes));
      });
    });
  }
  const auto space = scratch(rows * static_cast<int64_t>(sizeof(kernels::Exponentials)));
  end(own(op_at(op).kind), [=, this] {
    auto* exponentials = reinterpret_cast<kernels::Exponentials*>(space());
    with_float_type(dtype(x), [&]<class T>() {
      device_->launch(kernels::SumOfExponentials<T>{data<T>(x), exponentials, classes}, rows, classes);
      device_->launch(kernels::Probabilities<T>{data<T>(x), exponentials, data<T>(probabilities), classes}, count(x));
      device_->launch(
          kernels::CrossEntropy<T>{data<T>(x), data<int32_t>(target), exponentials, data(loss), classes, rows}, 1,
          rows);
    });
  });
}

void CudaPlan::compile_mean_square(int op) {
  const TensorId x = op_at(op).inputs[0];
  const TensorId loss = op_at(op).outputs[0];
  begin({op});
  put(loss);
  touch(x);
  touch(loss);
  end(own(op_at(op).kind), [=, this] {
    with_float_type(dtype(x), [&]<class T>() {
      device_->launch(kernels::MeanSquare<T>{data<T>(x), data(loss), count(x)}, 1, count(x));
    });
  });
}

// Parameters and states are replaced where they lie, copies with them; small parameters together.
void CudaPlan::compile_update(int op, const Update& kind) {
  const auto gradient_of = [&](int update) { return op_at(update).inputs[1]; };
  const auto is_small = [&](int update) { return count(op_at(update).inputs[0]) <= kMostTogether; };
  std::vector<int> updates = {op};
  for (int other = op + 1; is_small(op) && other < static_cast<int>(program_.ops.size()); ++other) {
    if (updates.size() == kMostUpdates) break;
    if (!std::holds_alternative<Update>(op_at(other).kind) || !is_small(other)) continue;
    if (group_of_op_[static_cast<size_t>(other)] >= 0 || dtype(gradient_of(other)) != dtype(gradient_of(op))) continue;
    if (program_.tensor(gradient_of(other)).producer > op) continue;
    updates.push_back(other);
  }
  std::vector<int> ops;
  std::vector<TensorId> copies;  // by update
  for (const int update : updates) {
    const int reader = only_reader(op_at(update).outputs[0], Phase::kUpdate);
    const bool copied = reader >= 0 && std::holds_alternative<Convert>(op_at(reader).kind);
    ops.push_back(update);
    if (copied) ops.push_back(reader);
    copies.push_back(copied ? op_at(reader).outputs[0] : kNoTensor);
  }
  begin(ops);
  for (size_t u = 0; u < updates.size(); ++u) {
    const std::vector<TensorId>& in = op_at(updates[u]).inputs;  // w, gradient, scalars, states
    const std::vector<TensorId>& out = op_at(updates[u]).outputs;
    put(out[0], in[0]);
    for (size_t s = 3; s < in.size(); ++s) put(out[s - 2], in[s]);
    for (const TensorId id : in) touch(id);
    for (const TensorId id : out) touch(id);
    if (copies[u] == kNoTensor) continue;
    put(copies[u], previous_version(program_, copies[u]));
    touch(copies[u]);
  }
  const auto unscale = static_cast<float>(1 / kind.loss_scale);
  const auto launch = [=, this]<class T, class Rule>(const Rule& rule) {
    kernels::Update<Rule, T> kernel{};
    kernel.rule = rule;
    kernel.unscale = unscale;
    kernel.scalars = data(program_.scalars);
    int64_t elements = 0;
    for (size_t u = 0; u < updates.size(); ++u) {
      const std::vector<TensorId>& in = op_at(updates[u]).inputs;
      auto& part = kernel.parts[kernel.count++];
      part.w = data(in[0]);
      part.gradient = data<T>(in[1]);
      for (size_t s = 3; s < in.size(); ++s) part.states[s - 3] = data(in[s]);
      part.copy = copies[u] == kNoTensor ? nullptr : data<T>(copies[u]);
      part.end = elements += count(in[0]);
    }
    device_->launch(kernel, elements);
  };
  end(own_kernel(std::string(name_of(kind.optimizer))),
      [=, optimizer = kind.optimizer, dtype = dtype(gradient_of(op))] {
        std::visit(
            [&](const auto& rule) { with_float_type(dtype, [&]<class T>() { launch.template operator()<T>(rule); }); },
            optimizer);
      });
}

// A copy apart from its parameter's update.
void CudaPlan::compile_convert(int op) {
  const TensorId x = op_at(op).inputs[0];
  const TensorId copy = op_at(op).outputs[0];
  begin({op});
  put(copy, previous_version(program_, copy));
  end_elementwise(op, copy, [=, this]<class T>() { return kernels::Convert<T>{data(x), data<T>(copy)}; });
}

}  // namespace triphase::cuda
