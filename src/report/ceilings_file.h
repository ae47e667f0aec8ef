// SPDX-License-Identifier: Apache-2.0
// What is known of one machine, one backend and one number of threads: the ceilings, and the factors of the prediction.
// Kept in a file, because measuring takes a minute, and repeated in every record.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "measure/measure.h"
#include "measure/prediction.h"

namespace triphase {

// How well the factors fit what they were fitted to: |predicted / measured - 1| over layers and phases.
struct CalibrationFit {
  size_t cases = 0;
  size_t rows = 0;
  double median_error = 0;
  double p90_error = 0;
};

// That ceilings were measured again, because a row ran above its own, and which have risen.
struct Remeasured {
  struct Risen {
    std::string kernel;
    double from = 0;
    double to = 0;
  };
  std::string at;   // ISO 8601
  std::string row;  // its name
  double of_its_ceiling = 0;
  std::vector<Risen> risen;
};

struct KnownMachine {
  std::string backend;
  int threads = 1;
  std::string fingerprint;  // of the environment, the library and this program's kernels
  std::string measured_at;  // ISO 8601
  // How often others took a processor away from the ceilings' measuring; absent where a device computes.
  std::optional<double> switches_per_s;
  std::vector<Ceiling> ceilings;
  Factors factors;
  std::optional<CalibrationFit> fit;     // absent where nothing was calibrated
  std::optional<Remeasured> remeasured;  // the last time, if ever

  // As it was while a measurement went on.
  // A gauge that others disturbed tells nothing.
  Speed speed(const Measurement& measured) const {
    return measured.disturbed ? Speed() : speed_of(measured.readings, ceilings, threads);
  }
  Machine machine(const Measurement& measured) const { return {ceilings, threads, speed(measured)}; }
};

// What ceilings and factors depend on: the environment, unless a device computes, and the versions of what computes.
std::string machine_fingerprint(Backend& backend);

// Where a machine's file lies: in $TRIPHASE_CACHE, or $XDG_CACHE_HOME/triphase, or ~/.cache/triphase.
std::string ceilings_path(const std::string& fingerprint, const std::string& backend, int threads);

nlohmann::ordered_json to_json(const KnownMachine& known);
// Throws InputError naming the file, the JSON path, what was expected and what was found.
KnownMachine known_machine(const nlohmann::json& json, const std::string& file);

// The file's content; absent where there is no such file. Throws InputError for one that cannot be used.
std::optional<KnownMachine> read_ceilings(const std::string& path);

// Why the ceilings are not to be trusted: a sentence for each sign of a machine that was busy with something else.
std::vector<std::string> doubts(const KnownMachine& known);

// Rates as a table for people, how well the prediction fits, and the doubts.
std::string ceilings_table(const KnownMachine& known);

}  // namespace triphase
