// SPDX-License-Identifier: Apache-2.0
// The cases that the flags ask for, each with its program, and what is known of it before it runs.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/suite.h"
#include "report/rows.h"

namespace triphase {

struct Selection {
  std::string suite;
  std::vector<std::string> models;
  std::vector<std::string> backends = {"onednn"};
  // Where given, in place of a suite's own; of models, one example, SGD and f32 where not.
  std::optional<std::string> batch;
  std::vector<std::string> optimizers;
  std::vector<std::string> dtypes;
  std::optional<double> loss_scale;  // of cases in f16; the usual one where absent
};

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
std::vector<Case> select_cases(const Selection& selection, int threads, double time_per_case_s);

// A size such as 8GiB or 500MB, in bytes. Throws InputError.
int64_t parse_bytes(const std::string& text);

// What --max_memory says, in bytes; nine tenths of what is available now where it says nothing. Throws InputError.
int64_t memory_to_use(const std::string& max_memory);
// The same for a backend's plans, whose memory may not be the host's, of which `host_bytes` may be used.
int64_t memory_to_use(const std::string& max_memory, const Backend& backend, int64_t host_bytes);

}  // namespace triphase
