// SPDX-License-Identifier: Apache-2.0
// What a dry run says: for each item whether it would run, in how much memory and time. Measures nothing.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "bench_flags.h"
#include "report/format.h"

namespace triphase {

class DryRun {
 public:
  // `titles` are those of the columns that tell items apart; `items` is what several are called.
  DryRun(std::vector<std::string> titles, std::string items, const BenchFlags& flags);

  // Adds an item, which its `cells` tell apart. `cannot_run` says why not, where that is known already; `expected_s` is
  // a guess. Throws Interrupted once asked to stop.
  void add(std::vector<std::string> cells, const StepProgram& program, const std::string& backend,
           const std::string& cannot_run, double expected_s);
  std::string text() const;

 private:
  struct Outlook {
    int64_t bytes = 0;
    std::string cannot_run;
  };
  Outlook outlook(const StepProgram& program, const std::string& backend);

  const BenchFlags& flags_;
  int64_t host_bytes_;  // of memory that plans on the host may use
  std::string items_;
  Table table_;
  int count_ = 0;
  int runnable_ = 0;
  double total_s_ = 0;
  std::map<std::string, int64_t> may_use_;  // bytes of memory, by backend
};

}  // namespace triphase
