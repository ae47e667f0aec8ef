// SPDX-License-Identifier: Apache-2.0
// Compiling convolutions. The forward primitive chooses the layouts of x (where nothing has yet), w and y; the
// gradients take those. Only the transposed weights that backward_data wants may need a reorder in the step.
//
// backward_data of a convolution of stride 1 is itself a forward convolution, of dy with the weights turned:
// dx = dy * w', w'[c,k,r,s] = w[k,c,R-1-r,S-1-s], padding dilation - p. The library's forward kernels are often
// the faster, so that both are tried.
#include "backends/onednn/plan.h"

namespace triphase {

using dnnl::memory;
using Dims = memory::dims;

namespace {

// A convolution's attributes as oneDNN wants them; with groups, weights have a dimension more.
struct ConvShape {
  Dims stride, dilation, padding;
  Shape w;

  ConvShape(const Conv2d& conv, const Shape& w_shape)
      : stride(conv.window.stride.begin(), conv.window.stride.end()),
        dilation{conv.window.dilation[0] - 1, conv.window.dilation[1] - 1},
        padding(conv.window.padding.begin(), conv.window.padding.end()),
        w(w_shape) {
    if (conv.groups > 1) w = {conv.groups, w_shape[0] / conv.groups, w_shape[1], w_shape[2], w_shape[3]};
  }
};

std::function<void()> in_a_row(std::vector<std::function<void()>> runs) {
  if (runs.size() == 1) return std::move(runs.front());
  return [runs = std::move(runs)] {
    for (const auto& run : runs) run();
  };
}

dnnl::convolution_forward::primitive_desc forward_desc(const dnnl::engine& engine, const ConvShape& conv,
                                                       const memory::desc& x, const memory::desc& w,
                                                       const memory::desc& bias, const memory::desc& y, bool relu) {
  return {engine,
          dnnl::prop_kind::forward_training,
          dnnl::algorithm::convolution_direct,
          x,
          w,
          bias,
          y,
          conv.stride,
          conv.dilation,
          conv.padding,
          conv.padding,
          primitive_attributes(relu)};
}

dnnl::convolution_backward_weights::primitive_desc backward_weights_desc(const dnnl::engine& engine,
                                                                         const ConvShape& conv, const memory::desc& x,
                                                                         const memory::desc& w,
                                                                         const memory::desc& bias,
                                                                         const memory::desc& y) {
  return {engine,
          dnnl::algorithm::convolution_direct,
          x,
          w,
          bias,
          y,
          conv.stride,
          conv.dilation,
          conv.padding,
          conv.padding,
          forward_desc(engine, conv, x, w, bias, y, false),
          primitive_attributes()};
}

}  // namespace

void OnednnPlan::compile_conv(int op, std::vector<int> ops, TensorId bias, TensorId output, bool relu) {
  const auto& kind = std::get<Conv2d>(op_at(op).kind);
  const TensorId x = op_at(op).inputs[0];
  const TensorId w = op_at(op).inputs[1];
  const ConvShape conv(kind, program_.tensor(w).type.shape);
  const memory::desc bias_desc = bias == kNoTensor ? memory::desc() : layout(bias).desc();
  const memory::desc x_wanted = any_layout(type(x));
  const memory::desc w_wanted = materialised(w) ? layout(w).desc() : any_layout({conv.w, dtype()});
  const auto forward = forward_desc(engine_, conv, x_wanted, w_wanted, bias_desc, any_layout(type(output)), relu);
  if (!materialised(x)) put(x, forward.src_desc());
  if (!materialised(w)) put(w, forward.weights_desc());
  begin(std::move(ops));
  put(output, forward.dst_desc());
  for (const TensorId id : {x, w, output}) touch(id);
  Args args = {{DNNL_ARG_SRC, bind_as(x, forward.src_desc())},
               {DNNL_ARG_WEIGHTS, bind(w)},
               {DNNL_ARG_DST, bind(output)},
               {DNNL_ARG_SCRATCHPAD, scratch(forward.scratchpad_desc())}};
  if (bias != kNoTensor) {
    touch(bias);
    args[DNNL_ARG_BIAS] = bind(bias);
  }
  end({{"convolution:" + std::string(forward.impl_info_str()), executes(dnnl::convolution_forward(forward), args)}});
}

void OnednnPlan::compile_conv_backward_data(int op) {
  const auto& kind = std::get<Conv2dBackwardData>(op_at(op).kind);
  const TensorId dy = op_at(op).inputs[0];
  const TensorId w = op_at(op).inputs[1];
  const TensorId dx = op_at(op).outputs[0];
  const ConvShape conv(kind.conv, program_.tensor(w).type.shape);
  const memory::desc x_desc = any_layout(type(dx));
  const memory::desc y_desc = any_layout(type(dy));
  const auto hint = forward_desc(engine_, conv, x_desc, any_layout({conv.w, dtype()}), memory::desc(), y_desc, false);
  const dnnl::convolution_backward_data::primitive_desc backward(
      engine_, dnnl::algorithm::convolution_direct, x_desc, any_layout({conv.w, dtype()}), y_desc, conv.stride,
      conv.dilation, conv.padding, conv.padding, hint, primitive_attributes());
  if (!materialised(dy)) put(dy, backward.diff_dst_desc());
  if (!materialised(w)) put(w, hint.weights_desc());  // as the forward convolution keeps them
  begin({op});
  put(dx, backward.diff_src_desc());
  for (const TensorId id : {dy, w, dx}) touch(id);
  const memory dy_memory = bind_as(dy, backward.diff_dst_desc());
  const memory dx_memory = bind(dx);
  const size_t shared = pending_.before.size();
  const Args args = {{DNNL_ARG_DIFF_DST, dy_memory},
                     {DNNL_ARG_WEIGHTS, bind_as(w, backward.weights_desc())},
                     {DNNL_ARG_DIFF_SRC, dx_memory},
                     {DNNL_ARG_SCRATCHPAD, scratch(backward.scratchpad_desc())}};
  std::vector<std::function<void()>> runs(pending_.before.begin() + static_cast<std::ptrdiff_t>(shared),
                                          pending_.before.end());  // the weights' reorder is this candidate's alone
  pending_.before.resize(shared);
  const std::string name = "convolution:" + std::string(backward.impl_info_str()) + (runs.empty() ? "" : "+reorder");
  runs.push_back(executes(dnnl::convolution_backward_data(backward), args));
  std::vector<Candidate> candidates = {{name, in_a_row(std::move(runs))}};
  if (auto turned = turned_convolution(kind.conv, w, dy_memory, dx_memory)) candidates.push_back(std::move(*turned));
  end(std::move(candidates));
}

std::optional<OnednnPlan::Candidate> OnednnPlan::turned_convolution(const Conv2d& conv, TensorId w, const memory& dy,
                                                                    const memory& dx) {
  constexpr int64_t kMostTaps = 25;  // each is a call
  const Shape& shape = program_.tensor(w).type.shape;
  const auto [rows, columns] = std::pair(shape[2], shape[3]);
  const auto& [kernel, stride, padding, dilation] = conv.window;
  if (conv.groups > 1 || stride[0] * stride[1] > 1 || rows * columns > kMostTaps) return {};
  const Dims padded = {(rows - 1) * dilation[0] - padding[0], (columns - 1) * dilation[1] - padding[1]};
  if (padded[0] < 0 || padded[1] < 0) return {};
  try {
    const Dims turned_shape = {shape[1], shape[0], rows, columns};
    const dnnl::convolution_forward::primitive_desc forward(
        engine_, dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, dy.get_desc(),
        any_layout({turned_shape, dtype()}), dx.get_desc(), {1, 1}, {dilation[0] - 1, dilation[1] - 1}, padded, padded,
        primitive_attributes());
    const memory::desc turned_desc = forward.weights_desc();
    if (turned_desc.get_padded_dims() != turned_shape) return {};  // whose padding nobody would clear
    const memory from = bind(w);
    const memory turned = scratch(turned_desc);
    std::vector<std::function<void()>> runs;
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t s = 0; s < columns; ++s) {
        const auto source = layout(w).desc().submemory_desc({shape[0], shape[1], 1, 1}, {0, 0, r, s});
        const auto target =
            turned_desc.submemory_desc({shape[1], shape[0], 1, 1}, {0, 0, rows - 1 - r, columns - 1 - s});
        const memory tap = same_bytes(from, source.permute_axes({1, 0, 2, 3}));
        const memory to = same_bytes(turned, target);
        runs.push_back(executes(dnnl::reorder(tap, to), {{DNNL_ARG_FROM, tap}, {DNNL_ARG_TO, to}}));
      }
    }
    runs.push_back(
        executes(dnnl::convolution_forward(forward), {{DNNL_ARG_SRC, dy},
                                                      {DNNL_ARG_WEIGHTS, turned},
                                                      {DNNL_ARG_DST, dx},
                                                      {DNNL_ARG_SCRATCHPAD, scratch(forward.scratchpad_desc())}}));
    return Candidate{"convolution_turned:" + std::string(forward.impl_info_str()), in_a_row(std::move(runs))};
  } catch (const dnnl::error&) {
    return {};  // not in these layouts
  }
}

void OnednnPlan::compile_conv_backward_weights(int op, std::optional<int> bias_op) {
  const auto& kind = std::get<Conv2dBackwardWeights>(op_at(op).kind);
  const TensorId dy = op_at(op).inputs[0];
  const TensorId x = op_at(op).inputs[1];
  const TensorId dw = op_at(op).outputs[0];
  const TensorId db = bias_op ? op_at(*bias_op).outputs[0] : kNoTensor;
  const ConvShape conv(kind.conv, kind.w_shape);
  const memory::desc x_desc = any_layout(type(x));
  const memory::desc y_desc = any_layout(type(dy));
  const memory::desc db_desc = db == kNoTensor ? memory::desc() : vector_of(kind.w_shape[0], dtype());
  const auto backward = backward_weights_desc(engine_, conv, x_desc, any_layout({conv.w, dtype()}), db_desc, y_desc);
  if (!materialised(dy)) put(dy, backward.diff_dst_desc());
  if (!materialised(x)) put(x, backward.src_desc());
  begin(bias_op ? std::vector<int>{*bias_op, op} : std::vector<int>{op});
  put(dw, backward.diff_weights_desc());
  for (const TensorId id : {dy, x, dw}) touch(id);
  Args args = {{DNNL_ARG_SRC, bind_as(x, backward.src_desc())},
               {DNNL_ARG_DIFF_DST, bind_as(dy, backward.diff_dst_desc())},
               {DNNL_ARG_DIFF_WEIGHTS, bind(dw)},
               {DNNL_ARG_SCRATCHPAD, scratch(backward.scratchpad_desc())}};
  if (db != kNoTensor) {
    put(db, db_desc);
    touch(db);
    args[DNNL_ARG_DIFF_BIAS] = bind(db);
  }
  end({{"convolution:" + std::string(backward.impl_info_str()),
        executes(dnnl::convolution_backward_weights(backward), args)}});
}

memory::desc OnednnPlan::usual_layout(const TensorType& type) const {
  if (type.shape.size() != 4) return row_major(type);
  const int64_t channels = type.shape[1];
  const TensorType w{{channels, channels, 3, 3}, type.dtype};
  const ConvShape conv({{.kernel = {3, 3}, .padding = {1, 1}}}, w.shape);
  const memory::desc image = any_layout(type);
  return forward_desc(engine_, conv, image, any_layout(w), memory::desc(), image, false).dst_desc();
}

std::optional<memory::desc> OnednnPlan::usual_weights(const TensorType& type, bool gradient) const {
  if (type.shape.size() != 4 || !is_narrow(type.dtype)) return {};
  const Shape& shape = type.shape;
  const ConvShape conv(Conv2d{}, shape);
  const memory::desc x = any_layout({{1, shape[1], shape[2], shape[3]}, type.dtype});
  const memory::desc y = any_layout({{1, shape[0], 1, 1}, type.dtype});
  const memory::desc w = any_layout(type);
  if (gradient) return backward_weights_desc(engine_, conv, x, w, memory::desc(), y).diff_weights_desc();
  return forward_desc(engine_, conv, x, w, memory::desc(), y, false).weights_desc();
}

}  // namespace triphase
