// SPDX-License-Identifier: Apache-2.0
// The float64 reference as a backend: slow, plain, and what the others are held against.
#pragma once

#include "backends/backend.h"

namespace triphase {

std::unique_ptr<Backend> make_reference_backend();

}  // namespace triphase
