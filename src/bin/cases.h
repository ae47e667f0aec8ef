// SPDX-License-Identifier: Apache-2.0
// The cases to run: each step that is selected, on each backend, with what is known of it before it runs.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bin/selection.h"
#include "report/rows.h"

namespace triphase {

struct Case {
  CaseId id;
  uint64_t network = 0;  // its fingerprint
  std::shared_ptr<const StepProgram> program;
  double expected_s = 0;   // a guess for the progress bar, not a prediction
  std::string cannot_run;  // why not, where that is known already
};

// The backend of that name, or why this build or machine has none. Throws InputError for an unknown name.
std::variant<std::unique_ptr<Backend>, Unsupported> make_backend(const std::string& name);

// Throws InputError; cases that come twice are kept once.
std::vector<Case> select_cases(const Selection& selection, const std::vector<std::string>& backends, int threads,
                               double time_per_case_s);

// A size such as 8GiB or 500MB, in bytes. Throws InputError.
int64_t parse_bytes(const std::string& text);

// What --max_memory says, in bytes; nine tenths of what is available now where it says nothing. Throws InputError.
int64_t memory_to_use(const std::string& max_memory);
// The same for a backend's plans, whose memory may not be the host's, of which `host_bytes` may be used.
int64_t memory_to_use(const std::string& max_memory, const Backend& backend, int64_t host_bytes);

}  // namespace triphase
