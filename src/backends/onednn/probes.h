// SPDX-License-Identifier: Apache-2.0
// Kernels that measure the machine's ceilings: products and convolutions by raw oneDNN calls in the layouts it likes
// best, own loops for memory, an empty parallel region and a tiny call for latency. No part of a step.
#pragma once

#include <dnnl.hpp>
#include <vector>

#include "backends/backend.h"

namespace triphase {

std::vector<ProbeGroup> onednn_probes(int threads);
ProbeGroup onednn_gauge(int threads);
std::optional<double> onednn_memory_bytes_per_s(int threads);

// Memory that holds values of about 1, never zeros, first touched by the threads that will use it.
dnnl::memory filled(const dnnl::memory::desc& desc, const dnnl::engine& engine);

}  // namespace triphase
