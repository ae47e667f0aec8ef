// SPDX-License-Identifier: Apache-2.0
// How a run of a benchmark binary ends: its rows become one results document, which goes to the file and to standard
// output, and an exit code.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench_flags.h"
#include "report/journal.h"
#include "report/progress.h"

namespace triphase {

// An item's rows of one repetition.
struct Done {
  int index;
  int repetition;
  Journal::Rows rows;
};

// Google Benchmark's context and rows. `own` is added to what context.triphase says in any case.
nlohmann::ordered_json results_document(const std::string& executable, const BenchFlags& flags,
                                        const nlohmann::ordered_json& own, const std::vector<Done>& done);

// Of times that others disturbed: how many items of how many, and the most that they took a processor away.
struct Disturbed {
  size_t count = 0;
  size_t of = 0;
  double most_per_s = 0;

  // Learns of an item's row with a time; gives what marks it in a table.
  std::string mark(const nlohmann::ordered_json& row);
  // What to print below the table; empty where there is none.
  std::string text(const std::string& items) const;
};

// Writes the document to where the flags say, prints it or what `print_tables` prints, and discards the journal unless
// the run was interrupted. Gives the exit code.
int conclude(const BenchFlags& flags, const nlohmann::ordered_json& document, Journal& journal, ProgressLine& progress,
             const std::function<void()>& print_tables);

}  // namespace triphase
