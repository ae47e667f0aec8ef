// SPDX-License-Identifier: Apache-2.0
#include "report/row_parts.h"

#include "measure/summary.h"

namespace triphase {

using Json = nlohmann::ordered_json;

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

void write_times(Json& row, const Measurement& measured, const std::vector<double>& series_s, size_t kept) {
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
}

}  // namespace triphase
