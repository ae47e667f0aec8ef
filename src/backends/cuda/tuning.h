// SPDX-License-Identifier: Apache-2.0
// Which of several ways to do the same is the fastest on this device.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <string>
#include <vector>

#include "backends/cuda/device.h"

namespace triphase::cuda {

// The number of the way that takes the least time on the stream. Timed as a step will run it: captured, because short
// ones take longer to launch than to run, with operands in the cache where they fit; in turns, so that the clocks' rise
// favours none. What is long, and hopeless, is not run again. Ways that fail are passed over; if all do, throws
// OutOfMemory where the last one did, else VendorError, with `none` before what that said. Throws DeviceLost at once.
size_t fastest(cudaStream_t stream, const std::vector<Piece>& ways, const std::string& none);

}  // namespace triphase::cuda
