// SPDX-License-Identifier: Apache-2.0
// The GPU's kernels, by the names under which nvcc registers them, to be run on the host.
#pragma once

#include <driver_types.h>
#include <vector_types.h>

#include <functional>
#include <string>

namespace fake_gpu {

// Takes the arguments, each by its address, and copies them.
using Bind = std::function<std::function<void()>(dim3 grid, dim3 block, void** arguments)>;

// `mangled` is the device's name of it. Empty where there is none of that name.
Bind kernel_named(const char* mangled);

}  // namespace fake_gpu
