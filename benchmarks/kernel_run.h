// SPDX-License-Identifier: Apache-2.0
// One run of triphase_kernels.
#pragma once

#include <map>
#include <string>
#include <variant>
#include <vector>

#include "bench_run.h"
#include "bin/kernels.h"

namespace triphase {

struct KernelFlags : BenchFlags {
  std::vector<std::string> caches = {"hot", "cold"};
  double time_per_kernel_s = 0.03;
};

void add_flags(CLI::App& app, KernelFlags& flags);

class KernelRun : public BenchRun {
 public:
  // The flags must outlive it.
  KernelRun(const KernelFlags& flags, std::vector<KernelCase> kernels);

 private:
  Json settings() const override;
  Json record() const override { return {{"memory", memory_}}; }
  std::vector<std::string> start() override;
  std::variant<Rows, Unsupported> measured(int item, const Repetition& repetition, const StageProgress& watch) override;
  Rows skipped_rows(int item, const Repetition& repetition, const std::string& reason) const override;
  std::string outcome(const Rows& rows) const override;
  void print(const std::vector<Done>& done) const override;
  DryRun dry_run(const std::vector<int>& items) const override;

  Rows rows_of(const KernelCase& item, const Repetition& repetition,
               const std::vector<KernelMeasurement>& measured) const;
  // Set up once for all its repetitions, which may take turns with those of others, as long as there is memory for all.
  // Or why its backend can no longer run.
  std::variant<PreparedKernel*, Unsupported> prepared(int index, const StageProgress& progress);

  const KernelFlags& flags_;
  std::vector<KernelCase> kernels_;
  std::vector<Cache> caches_;
  Json memory_ = Json::object();  // by backend: bytes_per_s and measured_by
  std::map<int, PreparedKernel> prepared_;
};

}  // namespace triphase
