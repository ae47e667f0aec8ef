// SPDX-License-Identifier: Apache-2.0
// The first GPU that the process sees, as a Device, and what it is. Knows nothing of CUDA itself, so that every
// compiler can read it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <variant>

#include "backends/cuda/device.h"
#include "core/error.h"

namespace triphase::cuda {

struct GpuInfo {
  std::string name;
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
  int64_t memory_bytes = 0, l2_bytes = 0;
  // The CUDA that the driver supports and the one that this was built with, "13.0"; the libraries' own versions, empty
  // where they are missing. Without NVRTC cuDNN runs on what was compiled before it was shipped, some of it slower.
  std::string driver, runtime, cublaslt, cudnn, nvrtc;
};

// The process's one: its handles take a while to make, and know which products were tuned. Unsupported, with one line,
// where there is no GPU, no driver or no cuBLASLt that would do, and after the GPU was lost.
std::variant<std::shared_ptr<Device>, Unsupported> the_gpu();
std::variant<GpuInfo, Unsupported> gpu_info();

}  // namespace triphase::cuda
