// SPDX-License-Identifier: Apache-2.0
#include "report/kernel_rows.h"

#include <algorithm>

#include "report/row_parts.h"

namespace triphase {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kSamplesKept = 100;

// A cold run is at least as long as fetching its operands takes; less may be the noise of either measurement.
void write_proof(Json& row, double bytes, double memory_bytes_per_s) {
  constexpr double kClearly = 1.05;
  const double slow_s = row.value("ci95_high_s", row["median_s"].get<double>());
  row["memory_bytes_per_s"] = memory_bytes_per_s;
  row["proven_cold"] = bytes / slow_s <= kClearly * memory_bytes_per_s;
}

Json used_by_list(std::vector<std::string> uses) {
  std::ranges::sort(uses);
  const auto again = std::ranges::unique(uses);
  uses.erase(again.begin(), again.end());
  return uses;
}

}  // namespace

std::string KernelId::name() const { return kernel + "/dtype:" + dtype + "/backend:" + backend + "/" + phase; }

std::vector<Json> rows(const KernelId& id, const Repetition& repetition, const Kernel& kernel,
                       const std::vector<std::string>& used_by, const std::vector<KernelMeasurement>& measurements,
                       std::optional<double> memory_bytes_per_s) {
  std::vector<Json> rows;
  for (const KernelMeasurement& item : measurements) {
    const Measurement& measured = item.measured;
    const std::string cache(to_string(item.cache));
    Json row = named_row(id.name() + "/" + cache + "/real_time", repetition, id.threads);
    row["op"] = id.op;
    row["phase"] = id.phase;
    row["dtype"] = id.dtype;
    if (kernel.program.precision == Precision::kF16) row["loss_scale"] = kernel.program.loss_scale;
    row["backend"] = id.backend;
    row["cache"] = cache;
    row["multiplicity"] = used_by.size();
    row["used_by"] = used_by_list(used_by);
    write_status(row, measured);
    write_cost(row, cost(kernel));
    row["operand_bytes"] = operand_bytes(kernel);
    int64_t planned_bytes = 0;
    std::string implementation;
    for (const Group& group : measured.groups) {
      const Op& op = kernel.program.ops[static_cast<size_t>(group.ops.front())];
      if (op.phase != kernel.phase) continue;
      planned_bytes += group.traffic_bytes;
      implementation += (implementation.empty() ? "" : ", ") + group.implementation.name;
    }
    if (!implementation.empty()) {
      row["implementation"] = implementation;
      row["traffic_bytes_planned"] = planned_bytes;
    }
    if (ran(measured)) {
      write_times(row, measured, measured.samples.step_s, kSamplesKept);
      row["runs_per_sample"] = item.runs_per_sample;
      if (item.cache == Cache::kCold && memory_bytes_per_s) {
        write_proof(row, static_cast<double>(operand_bytes(kernel)), *memory_bytes_per_s);
      }
      write_run(row, measured);
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace triphase
