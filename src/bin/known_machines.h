// SPDX-License-Identifier: Apache-2.0
// The ceilings that a run sets its times against: found at its start, their gauges held, and measured again when a
// layer turns out to run above them.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "report/ceilings_file.h"
#include "report/rows.h"

namespace triphase {

class KnownMachines {
 public:
  // `choice`: auto takes this machine's file, where there is one; off takes none; else a file. Throws InputError for a
  // file that is missing, cannot be used, or is another machine's. `notes` gets a line for each backend without one.
  KnownMachines(const std::string& choice, const std::vector<std::string>& backends, int threads,
                std::vector<std::string>& notes);

  const Gauge* gauge(const std::string& backend) const;

  // What a measurement is set against; empty where nothing is known.
  Expectation expectation(const std::string& backend, const StepProgram& program, const Measurement& measured) const;

  // The row that is the farthest above its ceiling, where that is clearly too far; else null.
  static const nlohmann::ordered_json* above_ceiling(const std::vector<nlohmann::ordered_json>& rows);
  // Measures the ceilings once more, once a run, and keeps the higher of each, unless the machine is busy with
  // something else. Says what came of it; empty if it was done before.
  std::string remeasure(const std::string& backend, const nlohmann::ordered_json& because);

  // When they were measured, by backend: what results set against them depend on.
  nlohmann::ordered_json measured_at() const;
  // For the record, by backend.
  nlohmann::ordered_json record() const;

 private:
  struct Entry {
    KnownMachine known;
    std::string path;
    std::optional<Gauge> gauge;
    bool tried_again = false;  // to measure them once more
  };
  std::map<std::string, Entry> entries_;  // by backend
};

}  // namespace triphase
