// SPDX-License-Identifier: Apache-2.0
// In what a step computes, by the names that --dtype takes.
//
// f32: all. tf32: products and convolutions may round their operands to 11 bits of significand, in registers.
// bf16, f16: mixed precision (Micikevicius et al., Mixed Precision Training, 2018): activations, gradients and the
// weights that layers read are kept in it; sums, statistics, optimizer states and the weights that are updated in f32.
// In f16 the loss is scaled, so that small gradients, which end at 2^-25 there, do not become zero.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/dtype.h"

namespace triphase {

enum class Precision { kF32, kTF32, kBF16, kF16 };

inline constexpr std::pair<Precision, std::string_view> kPrecisions[] = {
    {Precision::kF32, "f32"}, {Precision::kTF32, "tf32"}, {Precision::kBF16, "bf16"}, {Precision::kF16, "f16"}};

constexpr std::string_view to_string(Precision precision) {
  for (const auto& [known, name] : kPrecisions) {
    if (known == precision) return name;
  }
  return "?";
}

inline std::vector<std::string> precision_names() {
  std::vector<std::string> names;
  for (const auto& [precision, name] : kPrecisions) names.emplace_back(name);
  return names;
}

inline std::optional<Precision> precision_named(std::string_view name) {
  for (const auto& [known, its_name] : kPrecisions) {
    if (its_name == name) return known;
  }
  return {};
}

// The type that activations are kept in.
constexpr DType dtype_of(Precision precision) {
  return precision == Precision::kBF16 ? DType::kBF16 : precision == Precision::kF16 ? DType::kF16 : DType::kF32;
}

// What the loss is multiplied by and gradients are divided by again where they are used. A power of two rounds nothing.
constexpr double usual_loss_scale(Precision precision) { return precision == Precision::kF16 ? 1024 : 1; }

}  // namespace triphase
