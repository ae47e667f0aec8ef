// SPDX-License-Identifier: Apache-2.0
// Mixed precision as a change to the list of ops.
#pragma once

#include <optional>
#include <string>

#include "program/program.h"

namespace triphase {

// The same step in another precision. With bf16 and f16, products, convolutions and biases read a narrow copy of their
// parameters, which follows each update by a `convert`; their gradients, the input and all activations are narrow as
// well. Normalisations read their parameters in f32. In f16, gradients are computed `loss_scale` times as large, a
// power of two, usual_loss_scale() where absent, from the loss to where an update divides them again: by the same in
// every step, so that steps cost alike, and no step is left out for a gradient that overflows.
StepProgram with_precision(StepProgram f32, Precision precision, std::optional<double> loss_scale = {});

// How names of cases and kernels say it: "/loss_scale:64"; nothing where it is the usual one.
std::string loss_scale_suffix(Precision precision, double loss_scale);

}  // namespace triphase
