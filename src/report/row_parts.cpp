// SPDX-License-Identifier: Apache-2.0
#include "report/row_parts.h"

#include <set>

#include "measure/summary.h"
#include "stats/order.h"

namespace triphase {

using Json = nlohmann::ordered_json;

namespace {

// Medians over the readings; samples under a held-down clock stay, and the row says what share of the readings that
// was.
void write_device(Json& row, const std::vector<DeviceState>& states) {
  if (states.empty()) return;
  const auto write_median = [&](const char* key, std::optional<double> DeviceState::*member) {
    std::vector<double> values;
    for (const DeviceState& state : states) {
      if (state.*member) values.push_back(*(state.*member));
    }
    if (const auto middle = median(values)) row[key] = *middle;
  };
  write_median("device_clock_hz", &DeviceState::clock_hz);
  write_median("device_memory_clock_hz", &DeviceState::memory_clock_hz);
  write_median("device_power_w", &DeviceState::power_w);
  write_median("device_temperature_c", &DeviceState::temperature_c);
  std::set<std::string> reasons;
  size_t throttled = 0;
  for (const DeviceState& state : states) {
    reasons.insert(state.throttled_by.begin(), state.throttled_by.end());
    throttled += !state.throttled_by.empty();
  }
  row["throttled_share"] = static_cast<double>(throttled) / static_cast<double>(states.size());
  if (!reasons.empty()) row["throttled_by"] = reasons;
}

}  // namespace

Json named_row(const std::string& name, const Repetition& repetition, int threads) {
  return {{"name", name},
          {"run_name", name},
          {"run_type", "iteration"},
          {"repetitions", repetition.count},
          {"repetition_index", repetition.index},
          {"threads", threads},
          {"iterations", 0},
          {"real_time", 0.0},
          {"cpu_time", 0.0},
          {"time_unit", "ns"}};
}

void write_cost(Json& row, const Cost& cost) {
  row["flop"] = cost.flop;
  row["flop_unpadded"] = cost.flop_unpadded;
  row["flop_executed"] = cost.flop_executed;
  row["traffic_bytes"] = cost.traffic_bytes;
}

void write_status(Json& row, const Measurement& measured) {
  row["status"] = to_string(measured.status);
  if (!measured.reason.empty()) row["reason"] = measured.reason;
  if (ran(measured)) return;
  row["error_occurred"] = true;
  row["error_message"] = std::string(to_string(measured.status)) + ": " + measured.reason;
}

void write_times(Json& row, const Measurement& measured, std::span<const double> series_s, size_t kept) {
  constexpr double kNanoseconds = 1e9;
  const auto summary = summarise(series_s, kept);
  if (!summary) return;
  row["iterations"] = summary->sample_count;
  row["real_time"] = summary->median_s * kNanoseconds;
  row["cpu_time"] = summary->median_s * kNanoseconds * measured.cpu_share;
  row["median_s"] = summary->median_s;
  row["min_s"] = summary->min_s;
  row["mad_s"] = summary->mad_s;
  if (summary->ci95_s) {
    row["ci95_low_s"] = summary->ci95_s->low;
    row["ci95_high_s"] = summary->ci95_s->high;
  }
  row["sample_count"] = summary->sample_count;
  row["samples_s"] = summary->samples_s;
  row["setup_s"] = measured.setup_s;
  if (measured.disturbed) row["disturbed"] = true;
}

void write_run(Json& row, const Measurement& measured) {
  row["verified_ops"] = measured.verification.ops_checked;
  row["verified_elements"] = measured.verification.elements_checked;
  row["max_error_over_bound"] = measured.verification.max_error_over_bound;
  if (measured.switches_per_s) row["involuntary_switches_per_s"] = *measured.switches_per_s;
  write_device(row, measured.states);
  row["warmup_steps"] = measured.samples.warmup_steps;
  if (measured.samples.steady) row["steady"] = *measured.samples.steady;
  row["stop_reason"] = measured.samples.stop_reason;
}

}  // namespace triphase
