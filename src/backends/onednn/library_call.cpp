// SPDX-License-Identifier: Apache-2.0
#include "backends/onednn/library_call.h"

#include <dnnl.hpp>
#include <unordered_map>

#include "backends/onednn/layout.h"
#include "backends/onednn/probes.h"

namespace triphase {
namespace {

using dnnl::memory;
using Dims = memory::dims;
using Operands = std::vector<std::pair<int, memory::desc>>;

LibraryCall call_of(const dnnl::engine& engine, const std::string& implementation, const dnnl::primitive& primitive,
                    const Operands& operands) {
  int64_t bytes = 0;
  for (const auto& [index, desc] : operands) bytes += static_cast<int64_t>(desc.get_size());
  return {implementation, bytes, [=] {
            std::unordered_map<int, memory> args;
            for (const auto& [index, desc] : operands) args.emplace(index, filled(desc, engine));
            return [=, stream = dnnl::stream(engine)]() mutable {
              primitive.execute(stream, args);
              stream.wait();
            };
          }};
}

// y = x wᵀ.   x: [N, C]  w: [K, C]  y: [N, K], by their roles in the op's phase.
LibraryCall product(const dnnl::engine& engine, Phase phase, const TensorType& x, const TensorType& w,
                    const TensorType& y) {
  const dnnl::inner_product_forward::primitive_desc forward(engine, dnnl::prop_kind::forward_training, any_layout(x),
                                                            any_layout(w), any_layout(y));
  if (phase == Phase::kForward) {
    return call_of(engine, forward.impl_info_str(), dnnl::inner_product_forward(forward),
                   {{DNNL_ARG_SRC, forward.src_desc()},
                    {DNNL_ARG_WEIGHTS, forward.weights_desc()},
                    {DNNL_ARG_DST, forward.dst_desc()}});
  }
  if (phase == Phase::kBackwardData) {
    const dnnl::inner_product_backward_data::primitive_desc data(engine, any_layout(x), any_layout(w), any_layout(y),
                                                                 forward);
    return call_of(engine, data.impl_info_str(), dnnl::inner_product_backward_data(data),
                   {{DNNL_ARG_DIFF_DST, data.diff_dst_desc()},
                    {DNNL_ARG_WEIGHTS, data.weights_desc()},
                    {DNNL_ARG_DIFF_SRC, data.diff_src_desc()}});
  }
  const dnnl::inner_product_backward_weights::primitive_desc weights(engine, any_layout(x), any_layout(w),
                                                                     any_layout(y), forward);
  return call_of(engine, weights.impl_info_str(), dnnl::inner_product_backward_weights(weights),
                 {{DNNL_ARG_SRC, weights.src_desc()},
                  {DNNL_ARG_DIFF_DST, weights.diff_dst_desc()},
                  {DNNL_ARG_DIFF_WEIGHTS, weights.diff_weights_desc()}});
}

LibraryCall convolution(const dnnl::engine& engine, Phase phase, const Conv2d& conv, const TensorType& x,
                        const TensorType& w, const TensorType& y) {
  const Window& window = conv.window;
  const Dims stride(window.stride.begin(), window.stride.end());
  const Dims dilation = {window.dilation[0] - 1, window.dilation[1] - 1};
  const Dims padding(window.padding.begin(), window.padding.end());
  TensorType grouped = w;
  if (conv.groups > 1) {
    grouped.shape = {conv.groups, w.shape[0] / conv.groups, w.shape[1], w.shape[2], w.shape[3]};
  }
  const auto direct = dnnl::algorithm::convolution_direct;
  const dnnl::convolution_forward::primitive_desc forward(engine, dnnl::prop_kind::forward_training, direct,
                                                          any_layout(x), any_layout(grouped), any_layout(y), stride,
                                                          dilation, padding, padding);
  if (phase == Phase::kForward) {
    return call_of(engine, forward.impl_info_str(), dnnl::convolution_forward(forward),
                   {{DNNL_ARG_SRC, forward.src_desc()},
                    {DNNL_ARG_WEIGHTS, forward.weights_desc()},
                    {DNNL_ARG_DST, forward.dst_desc()}});
  }
  if (phase == Phase::kBackwardData) {
    const dnnl::convolution_backward_data::primitive_desc data(
        engine, direct, any_layout(x), any_layout(grouped), any_layout(y), stride, dilation, padding, padding, forward);
    return call_of(engine, data.impl_info_str(), dnnl::convolution_backward_data(data),
                   {{DNNL_ARG_DIFF_DST, data.diff_dst_desc()},
                    {DNNL_ARG_WEIGHTS, data.weights_desc()},
                    {DNNL_ARG_DIFF_SRC, data.diff_src_desc()}});
  }
  const dnnl::convolution_backward_weights::primitive_desc weights(
      engine, direct, any_layout(x), any_layout(grouped), any_layout(y), stride, dilation, padding, padding, forward);
  return call_of(engine, weights.impl_info_str(), dnnl::convolution_backward_weights(weights),
                 {{DNNL_ARG_SRC, weights.src_desc()},
                  {DNNL_ARG_DIFF_DST, weights.diff_dst_desc()},
                  {DNNL_ARG_DIFF_WEIGHTS, weights.diff_weights_desc()}});
}

}  // namespace

std::optional<LibraryCall> library_call(const StepProgram& program, const Op& op) {
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  const auto in = [&](size_t i) -> const TensorType& { return program.tensor(op.inputs[i]).type; };
  const TensorType& out = program.tensor(op.outputs[0]).type;
  try {
    if (std::holds_alternative<MatMul>(op.kind)) {
      if (op.phase == Phase::kForward) return product(engine, op.phase, in(0), in(1), out);
      if (op.phase == Phase::kBackwardData) return product(engine, op.phase, out, in(1), in(0));
      return product(engine, op.phase, in(1), out, in(0));
    }
    if (const auto* conv = std::get_if<Conv2d>(&op.kind)) {
      return convolution(engine, op.phase, *conv, in(0), in(1), out);
    }
    if (const auto* data = std::get_if<Conv2dBackwardData>(&op.kind)) {
      return convolution(engine, op.phase, data->conv, out, in(1), in(0));
    }
    if (const auto* weights = std::get_if<Conv2dBackwardWeights>(&op.kind)) {
      return convolution(engine, op.phase, weights->conv, in(1), out, in(0));
    }
  } catch (const dnnl::error&) {
    return {};
  }
  return {};
}

}  // namespace triphase
