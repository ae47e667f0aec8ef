// SPDX-License-Identifier: Apache-2.0
// The CPU backend: products, convolutions, pooling and normalisation through oneDNN v3, the rest in own loops.
#pragma once

#include "backends/backend.h"

namespace triphase {

std::unique_ptr<Backend> make_onednn_backend();

}  // namespace triphase
