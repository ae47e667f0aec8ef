// SPDX-License-Identifier: Apache-2.0
#include "layers/kinds.h"

#include <stdexcept>

namespace triphase {

std::span<const LayerKind> layer_kinds() {
  static constexpr LayerKind kKinds[] = {
      {"linear", read_linear},
      {"conv2d", read_conv2d},
      {"relu", read_relu},
      {"max_pool2d", read_max_pool2d},
      {"avg_pool2d", read_avg_pool2d},
      {"global_avg_pool2d", read_global_avg_pool2d},
      {"batch_norm2d", read_batch_norm2d},
      {"add", read_add, 2},
      {"flatten", read_flatten},
  };
  return kKinds;
}

std::span<const LayerKind> loss_kinds() {
  static constexpr LayerKind kKinds[] = {
      {"softmax_cross_entropy", read_softmax_cross_entropy},
      {"mean_square", read_mean_square},
  };
  return kKinds;
}

void require_rank(const Shape& shape, size_t rank, std::string_view meaning) {
  if (shape.size() == rank) return;
  throw std::invalid_argument("expected an input " + std::string(meaning) + ", found shape " + to_string(shape));
}

Window read_window(Attributes& attributes, bool dilation, bool stride_is_kernel) {
  Window window;
  if (attributes.has("kernel") && attributes.has("kernel_size")) {
    throw InputError(attributes.path(), "one of kernel and kernel_size", "both");
  }
  attributes.find("kernel");  // known, whichever is used
  window.kernel = attributes.pair(attributes.has("kernel") ? "kernel" : "kernel_size", 1, kMaxWindow);
  window.stride = window.kernel;
  if (!stride_is_kernel || attributes.has("stride")) window.stride = attributes.pair("stride", 1, kMaxWindow, 1);
  attributes.find("stride");
  window.padding = attributes.pair("padding", 0, kMaxWindow, 0);
  if (dilation) window.dilation = attributes.pair("dilation", 1, kMaxWindow, 1);
  return window;
}

}  // namespace triphase
