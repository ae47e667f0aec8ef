// SPDX-License-Identifier: Apache-2.0
// Mixed precision as a change to the list of ops.
#pragma once

#include "program/program.h"

namespace triphase {

// The same step in another precision. With bf16 and f16, products, convolutions and biases read a narrow copy of their
// parameters, which follows each update by a `convert`; their gradients, the input and all activations are narrow as
// well. Normalisations read their parameters in f32. Losses are not scaled: in f16, gradients below 2^-25 become zero.
StepProgram with_precision(StepProgram f32, Precision precision);

}  // namespace triphase
