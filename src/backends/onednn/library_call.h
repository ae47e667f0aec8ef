// SPDX-License-Identifier: Apache-2.0
// oneDNN's own call for one product or convolution, as its examples would have it: a primitive alone, every layout of
// its own choice, nothing fused, no step around it. What a layer within a step is set against; no part of a step.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "program/program.h"

namespace triphase {

struct LibraryCall {
  std::string implementation;  // "brgemm:avx512_core"
  int64_t memory_bytes = 0;    // what make() allocates
  // Allocates and fills the operands; what it returns runs the call to its end, again and again.
  std::function<std::function<void()>()> make;
};

// Absent for ops that are neither, and for layouts or sizes that oneDNN has no primitive for.
std::optional<LibraryCall> library_call(const StepProgram& program, const Op& op);

}  // namespace triphase
