// SPDX-License-Identifier: Apache-2.0
// A kernel alone: the ops that a backend runs as one call (a convolution with its bias and ReLU; an update), taken out
// of a step as a StepProgram of their own, so that all that reads programs (cost, reference, plans, verification) reads
// it as well. The ops are those of one group of the backend's plan for the whole step, and not always a single op: a
// bias that every step adds within a product would tell nothing if it were timed apart.
//
// What the ops read is given and what they write is kept. Nothing of where they came from is left: tensors are named by
// their place, values follow from shapes, so that the kernels of two layers or networks are equal if they do the same
// work, and bear the same name.
#pragma once

#include <span>
#include <string>

#include "program/program.h"

namespace triphase {

struct Kernel {
  // The kernel's ops are those of `phase`. A max-pool's backward reads taps, which only the pool itself can make: that
  // one then comes before, in the forward phase.
  StepProgram program;
  Phase phase = Phase::kForward;
};

// The ops with these indices, ascending, all of one phase.
//
// Given values are seeded normal and parameters drawn as for their fan-in, so that none is left out unseen; the moments
// that batch normalisation reads are constants.
Kernel extract(const StepProgram& program, std::span<const int> ops);

// "conv2d+add_bias+relu": the ops' kinds, the one with the most FLOP first.
std::string op_name(const Kernel& kernel);

// op_name, operands and attributes, as in
// "conv2d+relu/in:64x3x224x224,32x3x7x7/out:64x32x112x112/stride:2x2/padding:3x3". With its phase and precision it is
// equal for kernels that do the same work, and only for those. Numbers that change no work (epsilon, momentum, learning
// rate) are left out, attributes that have their usual value as well. In mixed precision what is kept in f32 is marked:
// "64:f32".
std::string name_of(const Kernel& kernel);

// The cost of its ops, as in the step that they came from.
Cost cost(const Kernel& kernel);

// The bytes that a run must fetch if none is in a cache: each operand once, one that is replaced where it lies as well,
// and nothing that only passes from op to op within the kernel.
int64_t operand_bytes(const Kernel& kernel);

}  // namespace triphase
