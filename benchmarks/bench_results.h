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

// Writes the document to where the flags say, prints it or what `print_tables` prints, and discards the journal unless
// the run was interrupted. Gives the exit code.
int conclude(const BenchFlags& flags, const nlohmann::ordered_json& document, Journal& journal, ProgressLine& progress,
             const std::function<void()>& print_tables);

}  // namespace triphase
