// SPDX-License-Identifier: Apache-2.0
// The distinct kernels of chosen cases, each once, and where each is used.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bin/cases.h"
#include "report/kernel_rows.h"

namespace triphase {

struct KernelCase {
  KernelId id;
  std::shared_ptr<const Kernel> kernel;
  std::vector<std::string> used_by;  // "ConvNet/batch:1/dtype:f32/optimizer:sgd/backend:onednn/layer:fc1/forward"
  std::string cannot_run;            // why not, where that is known already
};

// The kernels of all cases in the order of first use, as each case's backend groups its ops; views, which run nothing,
// are none. Where a backend cannot compile a case, each op is a kernel, that cannot run. Kernels of one name are one.
std::vector<KernelCase> distinct_kernels(const std::vector<Case>& cases);

}  // namespace triphase
