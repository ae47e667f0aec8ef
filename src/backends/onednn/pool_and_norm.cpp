// SPDX-License-Identifier: Apache-2.0
// Compiling pooling and batch normalisation, in whatever layout their input has.
#include "backends/onednn/kernels.h"
#include "backends/onednn/plan.h"
#include "backends/onednn/pool_gradient.h"

namespace triphase {

using dnnl::memory;
using Dims = memory::dims;

namespace {

struct PoolShape {
  Dims stride, kernel, padding;
  Dims dilation = {0, 0};

  explicit PoolShape(const Window& window)
      : stride(window.stride.begin(), window.stride.end()),
        kernel(window.kernel.begin(), window.kernel.end()),
        padding(window.padding.begin(), window.padding.end()) {}
};

dnnl::pooling_forward::primitive_desc forward_desc(const dnnl::engine& engine, const PoolShape& pool,
                                                   dnnl::algorithm algorithm, const memory::desc& x,
                                                   const TensorType& y) {
  return {engine,
          dnnl::prop_kind::forward_training,
          algorithm,
          x,
          any_layout(y),
          pool.stride,
          pool.kernel,
          pool.dilation,
          pool.padding,
          pool.padding,
          primitive_attributes()};
}

// How many stretches of planes an image has, and how many channels lie side by side in each: all, blocks of 16, or each
// alone. Absent for other layouts.
std::optional<std::pair<int64_t, int64_t>> stretches_of(const memory::desc& image) {
  const Dims shape = image.get_dims();
  const auto is = [&](memory::format_tag tag) { return image == memory::desc(shape, image.get_data_type(), tag); };
  if (is(memory::format_tag::nchw)) return std::pair(shape[0] * shape[1], int64_t{1});
  if (is(memory::format_tag::nhwc)) return std::pair(shape[0], shape[1]);
  if (is(memory::format_tag::nChw16c)) return std::pair(shape[0] * ((shape[1] + 15) / 16), int64_t{16});
  return {};
}

// A gradient of as many bytes is out of the caches before it is read.
constexpr int64_t kStreamFrom = 8 << 20;

const auto kAffine = dnnl::normalization_flags::use_scale | dnnl::normalization_flags::use_shift;

}  // namespace

std::optional<PoolAndRelu> pool_and_relu(const StepProgram& program, int pool_backward) {
  const Op& op = program.ops[static_cast<size_t>(pool_backward)];
  if (!std::holds_alternative<MaxPool2dBackward>(op.kind)) return {};
  const Op& pool = program.ops[static_cast<size_t>(program.tensor(op.inputs[1]).producer)];
  const std::vector<int>& readers = program.tensor(op.outputs[0]).readers;
  if (readers.size() != 1) return {};
  const Op& reader = program.ops[static_cast<size_t>(readers[0])];
  if (!std::holds_alternative<ReluBackward>(reader.kind) || reader.phase != op.phase) return {};
  if (reader.inputs[0] != op.outputs[0] || reader.inputs[1] != pool.inputs[0]) return {};
  return PoolAndRelu{pool.inputs[0], pool.outputs[0], readers[0]};
}

bool OnednnPlan::compile_pool_and_relu_backward(int op) {
  const auto pair = pool_and_relu(program_, op);
  if (!pair || !have_pool_gradient()) return false;
  const auto& kind = std::get<MaxPool2dBackward>(op_at(op).kind);
  const TensorId dy = op_at(op).inputs[0];
  const TensorId tap = op_at(op).inputs[1];
  const TensorId dx = op_at(pair->relu_backward).outputs[0];
  const memory::desc y_desc = layout(pair->output).desc();
  const auto gradient = pool_gradient(kind, layout(pair->input).desc(), y_desc, tap);
  if (!gradient) return false;
  begin({op, pair->relu_backward});
  put(dx, layout(pair->input).desc());
  for (const TensorId id : {dy, tap, pair->output, dx}) touch(id);
  end(pool_gradients("max_pool_and_relu_backward", *gradient, bind_as(dy, y_desc), pair->output, tap, dx));
  return true;
}

std::optional<PoolGradient> OnednnPlan::pool_gradient(const MaxPool2dBackward& kind, const memory::desc& x,
                                                      const memory::desc& y, TensorId tap) const {
  const auto stretches = stretches_of(y);
  if (!have_pool_gradient() || !stretches || stretches->second % 16 != 0 || type(tap).dtype != DType::kU8 ||
      stretches_of(x) != stretches || stretches_of(layout(tap).desc()) != stretches ||
      kind.window.dilation != std::array<int64_t, 2>{1, 1} ||
      kind.x_shape[3] + 2 * kind.window.padding[1] + kind.window.kernel[1] > kMostPoolWidth) {
    return {};
  }
  return PoolGradient{kind.window, kind.x_shape, y.get_dims(), false, stretches->second};
}

std::vector<OnednnPlan::Candidate> OnednnPlan::pool_gradients(const std::string& name, PoolGradient gradient,
                                                              const memory& dy, TensorId output, TensorId tap,
                                                              TensorId dx) const {
  std::vector<Candidate> candidates;
  for (const bool stream : {false, true}) {
    if (stream && layout(dx).bytes() < kStreamFrom) break;
    gradient.stream = stream;
    candidates.push_back({own_loop(name, stream), [=, this, dtype = type(dx).dtype] {
                            with_kept_type(dtype, [&]<class T>() {
                              gradient(static_cast<const T*>(dy.get_data_handle()),
                                       output == kNoTensor ? nullptr : data<T>(output), data<uint8_t>(tap),
                                       data<T>(dx));
                            });
                          }});
  }
  return candidates;
}

void OnednnPlan::compile_pool(int op, const Window& window, dnnl::algorithm algorithm) {
  const TensorId x = op_at(op).inputs[0];
  const TensorId y = op_at(op).outputs[0];
  const auto forward = forward_desc(engine_, PoolShape(window), algorithm, layout(x).desc(), type(y));
  begin({op});
  put(y, forward.dst_desc());
  touch(x);
  touch(y);
  Args args = {
      {DNNL_ARG_SRC, bind(x)}, {DNNL_ARG_DST, bind(y)}, {DNNL_ARG_SCRATCHPAD, scratch(forward.scratchpad_desc())}};
  if (algorithm == dnnl::algorithm::pooling_max) {
    const TensorId tap = op_at(op).outputs[1];
    const memory::desc workspace = forward.workspace_desc();
    const bool narrow = workspace.get_data_type() == memory::data_type::u8;
    if (workspace.get_dims() != program_.tensor(tap).type.shape ||
        narrow != (program_.tensor(tap).type.dtype == DType::kU8)) {
      throw Unimplemented("a max-pool workspace that is not one tap an output");
    }
    put(tap, workspace);
    touch(tap);
    args[DNNL_ARG_WORKSPACE] = bind(tap);
  }
  end({{"pooling:" + std::string(forward.impl_info_str()), executes(dnnl::pooling_forward(forward), args)}});
}

void OnednnPlan::compile_pool_backward(int op, const Window& window, dnnl::algorithm algorithm) {
  const TensorId dy = op_at(op).inputs[0];
  const TensorId dx = op_at(op).outputs[0];
  // Gradients take the layouts of the forward op, which is found by the taps it wrote or by its layer; without one, the
  // usual.
  const bool max = algorithm == dnnl::algorithm::pooling_max;
  memory::desc y_desc;
  memory::desc x_desc;
  for (const Op& forward_op : program_.ops) {
    const bool same = max ? !forward_op.outputs.empty() && forward_op.outputs.back() == op_at(op).inputs[1]
                          : std::holds_alternative<AvgPool2d>(forward_op.kind) && forward_op.layer == op_at(op).layer;
    if (!same) continue;
    x_desc = layout(forward_op.inputs[0]).desc();
    y_desc = layout(forward_op.outputs[0]).desc();
    break;
  }
  if (x_desc.is_zero()) {
    y_desc = layout(dy).desc();
    x_desc = usual_layout(program_.tensor(dx).type);
  }
  begin({op});
  put(dx, x_desc);
  touch(dy);
  touch(dx);
  const memory dy_memory = bind_as(dy, y_desc);
  if (is_narrow(type(dy).dtype) && (window.stride[0] < window.kernel[0] || window.stride[1] < window.kernel[1])) {
    // The library may round what overlapping windows have in common at every addition.
    const auto stretches = stretches_of(y_desc);
    bool alike = stretches && stretches_of(x_desc) == stretches;
    if (const auto* kind = std::get_if<MaxPool2dBackward>(&op_at(op).kind)) {
      const TensorId tap = op_at(op).inputs[1];
      if (const auto gradient = pool_gradient(*kind, x_desc, y_desc, tap)) {
        touch(tap);
        return end(pool_gradients("max_pool_backward", *gradient, dy_memory, kNoTensor, tap, dx));
      }
      alike = alike && type(tap).dtype == DType::kU8 && stretches_of(layout(tap).desc()) == stretches;
    }
    if (alike) return end_pool_backward_loop(op, algorithm, window, dy_memory, *stretches);
    // Else as the library does it; verification judges.
  }
  const PoolShape pool(window);
  const auto hint = forward_desc(engine_, pool, algorithm, x_desc, type(dy));
  const dnnl::pooling_backward::primitive_desc backward(engine_, algorithm, x_desc, y_desc, pool.stride, pool.kernel,
                                                        pool.dilation, pool.padding, pool.padding, hint,
                                                        primitive_attributes());
  Args args = {{DNNL_ARG_DIFF_DST, dy_memory},
               {DNNL_ARG_DIFF_SRC, bind(dx)},
               {DNNL_ARG_SCRATCHPAD, scratch(backward.scratchpad_desc())}};
  if (max) {
    touch(op_at(op).inputs[1]);
    args[DNNL_ARG_WORKSPACE] = bind(op_at(op).inputs[1]);
  }
  end({{"pooling:" + std::string(backward.impl_info_str()), executes(dnnl::pooling_backward(backward), args)}});
}

void OnednnPlan::end_pool_backward_loop(int op, dnnl::algorithm algorithm, const Window& window, const memory& dy,
                                        std::pair<int64_t, int64_t> stretches) {
  const TensorId dx = op_at(op).outputs[0];
  const bool max = algorithm == dnnl::algorithm::pooling_max;
  const TensorId tap = max ? op_at(op).inputs[1] : kNoTensor;
  if (max) touch(tap);
  const Shape& x = type(dx).shape;
  const Shape& y = type(op_at(op).inputs[0]).shape;
  const PooledPlanes planes{window, stretches.first, stretches.second, {x[2], x[3]}, {y[2], y[3]}};
  const bool count_padding = algorithm == dnnl::algorithm::pooling_avg_include_padding;
  end({{own_loop(std::string(name_of(op_at(op).kind))), [=, this] {
          const auto* gradient = static_cast<const BF16*>(dy.get_data_handle());
          if (max) {
            max_pool_backward(planes, gradient, data<uint8_t>(tap), data<BF16>(dx));
          } else {
            average_pool_backward(planes, count_padding, gradient, data<BF16>(dx));
          }
        }}});
}

void OnednnPlan::compile_batch_norm(int op) {
  const auto& kind = std::get<BatchNorm2d>(op_at(op).kind);
  const std::vector<TensorId>& in = op_at(op).inputs;
  const std::vector<TensorId>& out = op_at(op).outputs;
  const memory::desc x_desc = layout(in[0]).desc();
  const dnnl::batch_normalization_forward::primitive_desc forward(engine_, dnnl::prop_kind::forward_training, x_desc,
                                                                  x_desc, static_cast<float>(kind.epsilon), kAffine,
                                                                  primitive_attributes());
  begin({op});
  put(out[0], x_desc);
  put(out[1], forward.mean_desc());
  put(out[2], forward.variance_desc());
  for (const TensorId id : {in[0], in[1], in[2], out[0], out[1], out[2]}) touch(id);
  end({{"batch_normalization:" + std::string(forward.impl_info_str()),
        executes(dnnl::batch_normalization_forward(forward),
                 {{DNNL_ARG_SRC, bind(in[0])},
                  {DNNL_ARG_SCALE, bind(in[1])},
                  {DNNL_ARG_SHIFT, bind(in[2])},
                  {DNNL_ARG_DST, bind(out[0])},
                  {DNNL_ARG_MEAN, bind(out[1])},
                  {DNNL_ARG_VARIANCE, bind(out[2])},
                  {DNNL_ARG_SCRATCHPAD, scratch(forward.scratchpad_desc())}})}});
}

void OnednnPlan::compile_batch_norm_backward(int op) {
  const auto& kind = std::get<BatchNorm2dBackward>(op_at(op).kind);
  const TensorId dy = op_at(op).inputs[0];
  const TensorId x = op_at(op).inputs[1];
  const TensorId gamma = op_at(op).inputs[2];
  const std::vector<TensorId>& out = op_at(op).outputs;
  const memory::desc x_desc = layout(x).desc();
  const dnnl::batch_normalization_forward::primitive_desc hint(engine_, dnnl::prop_kind::forward_training, x_desc,
                                                               x_desc, static_cast<float>(kind.epsilon), kAffine,
                                                               primitive_attributes());
  const dnnl::batch_normalization_backward::primitive_desc backward(engine_, dnnl::prop_kind::backward, x_desc, x_desc,
                                                                    x_desc, static_cast<float>(kind.epsilon), kAffine,
                                                                    hint, primitive_attributes());
  begin({op});
  const memory::desc channels = vector_of(program_.tensor(gamma).type.shape[0]);
  put(out[0], channels);
  put(out[1], channels);
  if (kind.data_gradient) put(out[2], x_desc);
  for (const TensorId id : op_at(op).inputs) touch(id);
  for (const TensorId id : out) touch(id);
  end({{"batch_normalization:" + std::string(backward.impl_info_str()),
        executes(dnnl::batch_normalization_backward(backward),
                 {{DNNL_ARG_SRC, bind(x)},
                  {DNNL_ARG_DIFF_DST, bind_as(dy, x_desc)},
                  {DNNL_ARG_SCALE, bind(gamma)},
                  {DNNL_ARG_MEAN, bind(op_at(op).inputs[3])},
                  {DNNL_ARG_VARIANCE, bind(op_at(op).inputs[4])},
                  {DNNL_ARG_DIFF_SRC, kind.data_gradient ? bind(out[2]) : scratch(x_desc)},
                  {DNNL_ARG_DIFF_SCALE, bind(out[0])},
                  {DNNL_ARG_DIFF_SHIFT, bind(out[1])},
                  {DNNL_ARG_SCRATCHPAD, scratch(backward.scratchpad_desc())}})}});
}

}  // namespace triphase
