// SPDX-License-Identifier: Apache-2.0
// What a GPU can do at best: the libraries' products and convolutions at sizes that suit it, and kernels that do
// nothing but move memory, each recorded and run as steps are.
#pragma once

#include <memory>
#include <vector>

#include "backends/backend.h"
#include "backends/cuda/device.h"

namespace triphase::cuda {

struct ProbeSizes {
  std::vector<int64_t> products = {4096, 8192};  // sides of square matrices
  struct Images {
    int64_t n, channels, size;  // in and out, through a kernel of 3x3
  };
  std::vector<Images> images = {{64, 64, 56}, {64, 128, 28}, {64, 256, 14}, {32, 256, 56}};
  double run_s = 4e-3;             // that a run takes, so that waiting for its end is a small part
  int64_t launch_bytes = 1 << 30;  // that a launch moves in a cache at least, so that launching is a small part
};

// Without those that the device has no way to run. Levels are "L2" and "memory".
std::vector<ProbeGroup> probes(const std::shared_ptr<Device>& device, const ProbeSizes& sizes = {});

// At which what is in no cache is read.
double memory_bytes_per_s(const std::shared_ptr<Device>& device);

}  // namespace triphase::cuda
