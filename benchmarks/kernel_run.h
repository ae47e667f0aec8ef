// SPDX-License-Identifier: Apache-2.0
// One run of triphase_kernels from the kernels to the file: each kernel's rows go to the journal as soon as they are
// there, and to the results when all are.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "bench_main.h"
#include "bench_results.h"
#include "bin/kernels.h"

namespace triphase {

struct KernelFlags : BenchFlags {
  std::vector<std::string> caches = {"hot", "cold"};
  double time_per_kernel_s = 0.03;
};

void add_flags(CLI::App& app, KernelFlags& flags);

// Measures the selected kernels, keeps their rows, and writes them at the end.
class KernelRun : public BenchRun {
 public:
  KernelRun(KernelFlags flags, std::vector<KernelCase> kernels);

  std::vector<std::vector<std::string>> names() const override;
  void select(const std::vector<int>& indices, int repetitions) override;
  void dry_run() const override;
  void start() override;
  double run_item(int index) override;
  int finish() override;

 private:
  nlohmann::ordered_json what_results_depend_on() const;
  Journal::Rows rows_of(const KernelCase& item, int repetition, const std::vector<KernelMeasurement>& measured) const;
  // What did not run, and why, for each cache state.
  std::vector<KernelMeasurement> skipped_all(const std::string& reason) const;
  // Set up once for all its repetitions, which may take turns with those of others, as long as there is memory for all.
  // Or why its backend can no longer run.
  std::variant<PreparedKernel*, Unsupported> prepared(int index, const StageProgress& progress);
  void print_table() const;

  KernelFlags flags_;
  std::vector<KernelCase> kernels_;
  std::vector<Cache> caches_;
  nlohmann::ordered_json environment_;
  nlohmann::ordered_json memory_ = nlohmann::ordered_json::object();  // by backend: bytes_per_s and measured_by
  std::optional<Journal> journal_;                                    // from start() on
  ProgressLine progress_;
  MeasureOptions options_;
  std::vector<int> selected_;
  int repetitions_ = 1;
  std::map<int, int> repetitions_done_;
  std::map<int, PreparedKernel> prepared_;
  std::vector<Done> done_;
};

}  // namespace triphase
