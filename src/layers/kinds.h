// SPDX-License-Identifier: Apache-2.0
// The list of layer kinds and losses. A kind reads its attributes and returns how it lowers: forward and backward side
// by side. It knows its shapes and its ops, and no backend. To add one: a file here and a line in kinds.cpp.
#pragma once

#include <span>
#include <string_view>

#include "layers/attributes.h"
#include "program/builder.h"

namespace triphase {

struct LayerKind {
  std::string_view name;
  Lower (*read)(Attributes&);
  size_t inputs = 1;
};

std::span<const LayerKind> layer_kinds();
std::span<const LayerKind> loss_kinds();

// Each throws InputError on attributes, std::invalid_argument while lowering where the input does not fit.
Lower read_linear(Attributes&);
Lower read_conv2d(Attributes&);
Lower read_relu(Attributes&);
Lower read_max_pool2d(Attributes&);
Lower read_avg_pool2d(Attributes&);
Lower read_global_avg_pool2d(Attributes&);
Lower read_batch_norm2d(Attributes&);
Lower read_add(Attributes&);
Lower read_flatten(Attributes&);
Lower read_softmax_cross_entropy(Attributes&);
Lower read_mean_square(Attributes&);

// Throws std::invalid_argument naming the shape found unless it has `rank` extents.
void require_rank(const Shape& shape, size_t rank, std::string_view meaning);

// kernel (or kernel_size), stride, padding and, where allowed, dilation.
Window read_window(Attributes&, bool dilation, bool stride_is_kernel);

}  // namespace triphase
