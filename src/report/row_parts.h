// SPDX-License-Identifier: Apache-2.0
// What rows of every kind hold: Google Benchmark's keys, the status, the cost, and times with their statistics.
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "measure/measure.h"
#include "ops/cost.h"
#include "report/rows.h"

namespace triphase {

// Google Benchmark's own keys, with zero times.
nlohmann::ordered_json named_row(const std::string& name, const Repetition& repetition, int threads);

void write_cost(nlohmann::ordered_json& row, const Cost& cost);

// The status and its reason, and Google Benchmark's error where nothing ran.
void write_status(nlohmann::ordered_json& row, const Measurement& measured);

// The statistics of one series of the measurement, and at most `kept` of its samples; nothing where it is empty.
void write_times(nlohmann::ordered_json& row, const Measurement& measured, std::span<const double> series_s,
                 size_t kept);

// How the run went: what was verified, what else the machine did, and when sampling began and ended.
void write_run(nlohmann::ordered_json& row, const Measurement& measured);

inline bool ran(const Measurement& measured) {
  return measured.status == Status::kOk || measured.status == Status::kUnverified;
}

}  // namespace triphase
