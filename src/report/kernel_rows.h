// SPDX-License-Identifier: Apache-2.0
// A kernel measured alone as rows of the same JSON as whole steps: one for each cache state. Every kernel gives its
// rows, also one that did not run.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "measure/measure.h"
#include "report/rows.h"

namespace triphase {

struct KernelId {
  std::string kernel;  // name_of(kernel)
  std::string op;      // "conv2d+relu"
  std::string phase;
  std::string dtype = "f32";
  std::string backend = "onednn";
  int threads = 1;

  // "matmul/in:64x512,10x512/out:64x10/dtype:f32/backend:onednn/forward"
  std::string name() const;
};

// `used_by`: where, one for each use. `memory_bytes_per_s`: the memory's bandwidth, where it is known. A cold row that
// fetched its operands faster than that, beyond the noise, was not cold; all others are proven to have been.
std::vector<nlohmann::ordered_json> rows(const KernelId& id, const Repetition& repetition, const Kernel& kernel,
                                         const std::vector<std::string>& used_by,
                                         const std::vector<KernelMeasurement>& measurements,
                                         std::optional<double> memory_bytes_per_s);

}  // namespace triphase
