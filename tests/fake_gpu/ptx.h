// SPDX-License-Identifier: Apache-2.0
// Kernels as nvcc compiled them: reads PTX and runs it, instruction by instruction, a block after the other. As many
// instructions are known as the own kernels are made of; PTX ISA, version 9.0, says what they do.
//
// A launch is stricter than a GPU. These end it as violations: an address of no allocation, or one that is not a
// multiple of what is accessed there; threads that wait at different barriers; and races: two threads of a block that
// access the same byte of shared memory between two barriers, or any two of a launch the same byte of global memory,
// one of them writing.
#pragma once

#include <map>
#include <string>

#include "fake_gpu/kernels.h"

namespace fake_gpu {

// The kernels of a PTX file by their mangled names. Throws std::runtime_error for a file that it cannot read; what it
// does not know is a violation when its kernel is first launched. What a Bind gives must not outlive it.
std::map<std::string, Bind> kernels_of_ptx(const std::string& path);

}  // namespace fake_gpu
