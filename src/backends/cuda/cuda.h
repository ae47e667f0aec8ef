// SPDX-License-Identifier: Apache-2.0
// The GPU backend: cuBLASLt, cuDNN and own kernels on the first GPU that is to be seen.
#pragma once

#include <memory>
#include <variant>

#include "backends/backend.h"

namespace triphase {

// Unsupported where there is no GPU, or no driver or library that would do.
std::variant<std::unique_ptr<Backend>, Unsupported> make_cuda_backend();

}  // namespace triphase
