// SPDX-License-Identifier: Apache-2.0
// Rows by the results contract, of cases that ran and of cases that did not; and the cost report's sums.
#include "report/rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <map>
#include <set>

#include "networks.h"
#include "report/cost_report.h"

namespace triphase {
namespace {

using Json = nlohmann::ordered_json;
using testing::HasSubstr;

constexpr const char* kModel = R"({"name": "two", "input": {"shape": [6]}, "loss": {"kind": "softmax_cross_entropy"},
  "layers": [{"name": "fc1", "kind": "linear", "out_features": 5}, {"name": "relu1", "kind": "relu"},
             {"name": "fc2", "kind": "linear", "out_features": 3}]})";

StepProgram program() { return lower(network_from(kModel), 4, Sgd{}); }

CaseId case_id() {
  return {.model = "two", .model_name = "two", .model_parameters = nlohmann::json::object(), .batch = 4, .threads = 2};
}

// Ten steps: forward i, backward towards data 2 i, towards weights 3 i, update i milliseconds, i from 1. relu1's
// forward is fused into fc1's; every other (layer, phase) has a group of its own.
Measurement measured(const StepProgram& program) {
  Measurement m;
  m.status = Status::kOk;
  m.setup_s = 0.25;
  m.cpu_share = 1.5;
  m.verification.ops_checked = 17;
  m.verification.elements_checked = 100;
  m.verification.max_error_over_bound = 0.5;
  m.memory = {.persistent_bytes = 1000, .transient_bytes = 200, .scratch_bytes = 34};
  std::map<std::pair<int, Phase>, Group> groups;
  for (size_t i = 0; i < program.ops.size(); ++i) {
    const Op& op = program.ops[i];
    const bool fused = program.layers[static_cast<size_t>(op.layer)].name == "relu1" && op.phase == Phase::kForward;
    Group& group = groups[{fused ? op.layer - 1 : op.layer, op.phase}];
    group.ops.push_back(static_cast<int>(i));
    group.implementation = "gemm";
    group.traffic_bytes = 7;
  }
  const std::array<double, 4> weights = {1, 2, 3, 1};
  for (auto& [key, group] : groups) {
    m.groups.push_back(group);
    m.samples.layers.push_back({key.first, key.second, {0.001, 0.003, 0.002}});
  }
  for (int i = 1; i <= 10; ++i) {
    m.samples.step_s.push_back(0.007 * i);
    for (const Phase phase : kAllPhases) {
      m.samples.phase_s[static_cast<size_t>(phase)].push_back(0.001 * weights[static_cast<size_t>(phase)] * i);
    }
    for (const auto& [pass, weight] : {std::pair(Pass::kForward, 1), {Pass::kBackward, 5}, {Pass::kUpdate, 1}}) {
      m.samples.pass_s[static_cast<size_t>(pass)].push_back(0.001 * weight * i);
    }
  }
  m.samples.layered_step_s = {0.0078};
  m.samples.unmarked_step_s = {0.0065, 0.013};
  m.samples.unmarked_neighbour = {0, 1};
  m.samples.warmup_steps = 3;
  m.samples.steady = true;
  m.samples.stop_reason = "interval";
  return m;
}

std::string name_of_row(const Json& row) { return row["name"].get<std::string>(); }

const Json& row(const std::vector<Json>& rows, const std::string& path) {
  for (const Json& row : rows) {
    if (name_of_row(row) == "two/batch:4/dtype:f32/optimizer:sgd/backend:onednn/" + path + "/real_time") return row;
  }
  throw std::out_of_range(path);
}

void expect_contract(const std::vector<Json>& rows) {
  std::set<std::string> names;
  for (const Json& row : rows) {
    SCOPED_TRACE(row.dump());
    EXPECT_TRUE(names.insert(name_of_row(row)).second) << "a name twice";
    EXPECT_EQ(row["run_name"], row["name"]);
    EXPECT_EQ(row["run_type"], "iteration");
    EXPECT_EQ(row["time_unit"], "ns");
    EXPECT_EQ(row["model"], "two");
    EXPECT_EQ(row["batch"], 4);
    EXPECT_EQ(row["dtype"], "f32");
    EXPECT_EQ(row["optimizer"], "sgd");
    EXPECT_EQ(row["backend"], "onednn");
    EXPECT_EQ(row["threads"], 2);
    EXPECT_TRUE(row["real_time"].is_number());
    EXPECT_TRUE(row["cpu_time"].is_number());
    EXPECT_TRUE(row["iterations"].is_number_unsigned() || row["iterations"].is_number_integer());
    for (const char* key : {"flop", "flop_unpadded", "flop_executed", "traffic_bytes"}) {
      EXPECT_TRUE(row[key].is_number_integer()) << key;
      EXPECT_GE(row[key], 0) << key;
    }
    EXPECT_EQ(row.contains("error_occurred"), row["status"] == "skipped" || row["status"] == "failed");
    EXPECT_EQ(row.dump().find("null"), std::string::npos) << "undefined numbers are absent, never NaN";
  }
}

TEST(Rows, of_a_case_are_one_a_phase_one_a_layer_and_phase) {
  const StepProgram p = program();
  const auto all = rows(case_id(), {}, p, measured(p));
  expect_contract(all);
  std::vector<std::string> paths;
  const std::string begin = "two/batch:4/dtype:f32/optimizer:sgd/backend:onednn/";
  for (const Json& r : all) {
    const std::string name = name_of_row(r);
    paths.push_back(name.substr(begin.size(), name.size() - begin.size() - std::string("/real_time").size()));
  }
  EXPECT_THAT(paths, testing::ElementsAre("forward", "backward_data", "backward_weights", "update", "backward", "step",
                                          "layer:fc1/forward", "layer:fc1/backward_weights", "layer:fc1/update",
                                          "layer:relu1/forward", "layer:relu1/backward_data", "layer:fc2/forward",
                                          "layer:fc2/backward_data", "layer:fc2/backward_weights", "layer:fc2/update",
                                          "layer:loss/forward", "layer:loss/backward_data"));
}

TEST(Rows, times_are_the_median_in_nanoseconds_and_cpu_time_its_share) {
  const StepProgram p = program();
  const auto all = rows(case_id(), {}, p, measured(p));
  const Json& forward = row(all, "forward");
  EXPECT_EQ(forward["status"], "ok");
  EXPECT_EQ(forward["iterations"], 10);
  EXPECT_EQ(forward["sample_count"], 10);
  EXPECT_DOUBLE_EQ(forward["median_s"], 0.0055);
  EXPECT_DOUBLE_EQ(forward["min_s"], 0.001);
  EXPECT_DOUBLE_EQ(forward["mad_s"], 0.0025);
  EXPECT_DOUBLE_EQ(forward["real_time"], 5.5e6);
  EXPECT_DOUBLE_EQ(forward["cpu_time"], 8.25e6);
  EXPECT_EQ(forward["setup_s"], 0.25);
  ASSERT_EQ(forward["samples_s"].size(), 10u);
  EXPECT_EQ(forward["samples_s"][3], 0.004);
  EXPECT_DOUBLE_EQ(row(all, "backward")["median_s"], 0.0275);
  EXPECT_DOUBLE_EQ(row(all, "step")["median_s"], 0.0385);
  EXPECT_DOUBLE_EQ(row(all, "layer:fc2/update")["median_s"], 0.002);
}

TEST(Rows, flop_and_bytes_of_backward_and_step_are_sums_of_their_phases) {
  const StepProgram p = program();
  const auto all = rows(case_id(), {}, p, measured(p));
  for (const char* key : {"flop", "flop_unpadded", "flop_executed", "traffic_bytes", "traffic_bytes_planned"}) {
    const auto of = [&](const char* phase) { return row(all, phase)[key].get<int64_t>(); };
    EXPECT_EQ(of("backward"), of("backward_data") + of("backward_weights")) << key;
    EXPECT_EQ(of("step"), of("forward") + of("backward") + of("update")) << key;
  }
  EXPECT_EQ(row(all, "forward")["flop"], 2 * 4 * (6 * 5 + 5 * 3));
  EXPECT_EQ(row(all, "layer:fc1/forward")["flop"], 2 * 4 * 6 * 5);
  EXPECT_EQ(row(all, "forward")["traffic_bytes_planned"], 3 * 7) << "fc1 with its ReLU, fc2, loss";
}

TEST(Rows, a_devices_clocks_are_medians_and_throttled_readings_are_counted) {
  const StepProgram two = program();
  Measurement m = measured(two);
  m.launch_overhead = 1.25;
  m.states = {
      {.clock_hz = 1.9e9, .memory_clock_hz = {}, .power_w = 300, .temperature_c = 40, .throttled_by = {}},
      {.clock_hz = 1.5e9, .memory_clock_hz = {}, .power_w = 700, .temperature_c = 50, .throttled_by = {"power cap"}},
      {.clock_hz = 1.6e9,
       .memory_clock_hz = {},
       .power_w = 690,
       .temperature_c = 60,
       .throttled_by = {"power cap", "thermal"}},
      {.clock_hz = 1.9e9, .memory_clock_hz = {}, .power_w = 310, .temperature_c = 60, .throttled_by = {}}};
  const std::vector<Json> all = rows(case_id(), {0, 1}, two, m, {});
  const Json& step = row(all, "step");
  EXPECT_EQ(step["launch_overhead"], 1.25);
  EXPECT_EQ(step["device_clock_hz"], 1.75e9);
  EXPECT_FALSE(step.contains("device_memory_clock_hz"));
  EXPECT_EQ(step["device_power_w"], 500);
  EXPECT_EQ(step["device_temperature_c"], 55);
  EXPECT_EQ(step["throttled_share"], 0.5);
  EXPECT_EQ(step["throttled_by"], Json({"power cap", "thermal"}));
  EXPECT_EQ(step["sample_count"], 10) << "throttled samples stay";
  EXPECT_FALSE(row(all, "forward").contains("device_clock_hz"));
}

TEST(Rows, updates_of_several_layers_in_one_kernel_have_one_time) {
  const StepProgram two = program();
  Measurement m = measured(two);
  std::vector<Group> groups;
  Group updates;
  for (const Group& group : m.groups) {
    if (two.ops[static_cast<size_t>(group.ops.front())].phase != Phase::kUpdate) {
      groups.push_back(group);
    } else {
      updates.ops.insert(updates.ops.end(), group.ops.begin(), group.ops.end());
    }
  }
  groups.push_back(updates);
  m.groups = groups;
  std::erase_if(m.samples.layers, [&](const Samples::Layer& layer) {
    return layer.phase == Phase::kUpdate && layer.layer != two.ops[static_cast<size_t>(updates.ops.front())].layer;
  });
  const std::vector<Json> all = rows(case_id(), {0, 1}, two, m, {});
  EXPECT_TRUE(row(all, "layer:fc1/update").contains("median_s"));
  EXPECT_FALSE(row(all, "layer:fc2/update").contains("median_s"));
  EXPECT_EQ(row(all, "layer:fc2/update")["fused_into"], "fc1");
  EXPECT_EQ(row(all, "update")["status"], "ok");
}

TEST(Rows, a_layer_fused_into_another_says_so_and_has_flop_and_no_time) {
  const StepProgram p = program();
  const auto all = rows(case_id(), {}, p, measured(p));
  const Json& fused = row(all, "layer:relu1/forward");
  EXPECT_EQ(fused["fused_into"], "fc1");
  EXPECT_EQ(fused["status"], "ok");
  EXPECT_EQ(fused["flop_executed"], 20);
  EXPECT_EQ(fused["real_time"], 0.0);
  EXPECT_EQ(fused["cpu_time"], 0.0);
  EXPECT_EQ(fused["iterations"], 0);
  for (const char* key : {"median_s", "samples_s", "implementation", "traffic_bytes_planned"}) {
    EXPECT_FALSE(fused.contains(key)) << key;
  }
  EXPECT_FALSE(row(all, "layer:relu1/backward_data").contains("fused_into")) << "that one has a group of its own";
  EXPECT_FALSE(row(all, "layer:fc1/forward").contains("fused_into"));
}

TEST(Rows, layers_name_their_kind_and_implementation) {
  const StepProgram p = program();
  const auto all = rows(case_id(), {}, p, measured(p));
  const Json& fc1 = row(all, "layer:fc1/forward");
  EXPECT_EQ(fc1["layer"], "fc1");
  EXPECT_EQ(fc1["layer_kind"], "linear");
  EXPECT_EQ(fc1["phase"], "forward");
  EXPECT_EQ(fc1["implementation"], "gemm");
  EXPECT_EQ(fc1["traffic_bytes_planned"], 7);
  EXPECT_FALSE(row(all, "forward").contains("layer"));
}

TEST(Rows, the_step_row_carries_the_ratios_and_how_it_was_measured) {
  const StepProgram p = program();
  const auto all = rows(case_id(), {}, p, measured(p));
  const Json& step = row(all, "step");
  const Totals sums = totals(p);
  EXPECT_EQ(step["ratio_flop"], ratio(sums.phases, &Cost::flop).plain);
  EXPECT_EQ(step["ratio_flop_with_update"], ratio(sums.phases, &Cost::flop).with_update);
  EXPECT_EQ(step["ratio_bytes"], ratio(sums.phases, &Cost::traffic_bytes).plain);
  EXPECT_EQ(step["ratio_bytes_with_update"], ratio(sums.phases, &Cost::traffic_bytes).with_update);
  EXPECT_NEAR(step["ratio_time"], 5, 1e-12) << "(2 i + 3 i) / i in every step";
  EXPECT_NEAR(step["ratio_time_with_update"], 6, 1e-12);
  EXPECT_NEAR(step["ratio_time_ci95_low"], 5, 1e-12);
  EXPECT_NEAR(step["ratio_time_ci95_high"], 5, 1e-12);
  EXPECT_NEAR(step["ratio_time_with_update_ci95_low"], 6, 1e-12);
  EXPECT_NEAR(step["ratio_time_with_update_ci95_high"], 6, 1e-12);
  EXPECT_EQ(step["parameter_count"], 6 * 5 + 5 + 5 * 3 + 3);
  EXPECT_EQ(step["first_layer_share"], 30.0 / 45.0);
  EXPECT_EQ(step["memory_bytes"]["parameters"], 4 * 53);
  EXPECT_EQ(step["memory_planned_bytes"], 1234);
  EXPECT_EQ(step["verified_ops"], 17);
  EXPECT_EQ(step["verified_elements"], 100);
  EXPECT_EQ(step["max_error_over_bound"], 0.5);
  EXPECT_NEAR(step["marking_overhead"], 14.0 / 13.0, 1e-12);
  EXPECT_NEAR(step["layer_marking_overhead"], 0.0078 / ((0.0065 + 0.013) / 2), 1e-12);
  EXPECT_EQ(step["warmup_steps"], 3);
  EXPECT_EQ(step["steady"], true);
  EXPECT_EQ(step["stop_reason"], "interval");
  for (const Json& other : all) {
    EXPECT_EQ(other.contains("ratio_flop"), &other == &step) << name_of_row(other);
  }
}

// Every layer takes 2 ms a phase: what the machine was taken to need is set against that.
TEST(Rows, a_layer_that_beats_its_ceiling_by_more_than_a_hundredth_says_so) {
  const StepProgram p = program();
  const auto forward_of_fc1 = [&](double flop_s, double latency_s, bool disturbed = false) {
    Measurement measurement = measured(p);
    measurement.disturbed = disturbed;
    const Expectation expectation{.demands = {{.layer = 0,
                                               .phase = Phase::kForward,
                                               .family = {},
                                               .flop_s = flop_s,
                                               .level_s = {},
                                               .latency_s = latency_s,
                                               .terms_s = {}}},
                                  .factors = {},
                                  .speed = {}};
    return row(rows(case_id(), {}, p, measurement, expectation), "layer:fc1/forward");
  };
  EXPECT_EQ(forward_of_fc1(0.0015, 0).value("roofline_s", 0.0), 0.0015);
  EXPECT_EQ(forward_of_fc1(0.0015, 0).value("bound", ""), "compute");
  EXPECT_FALSE(forward_of_fc1(0.0015, 0).contains("above_ceiling"));
  EXPECT_FALSE(forward_of_fc1(0.002015, 0).contains("above_ceiling")) << "times are not known to 1 %";
  EXPECT_NEAR(forward_of_fc1(0.003, 0).value("above_ceiling", 0.0), 1.5, 1e-12);
  EXPECT_FALSE(forward_of_fc1(0, 0.003).contains("above_ceiling")) << "latency is no ceiling";
  EXPECT_FALSE(forward_of_fc1(0.003, 0, /*disturbed=*/true).contains("above_ceiling")) << "so are the ceilings";
  EXPECT_TRUE(forward_of_fc1(0.003, 0, /*disturbed=*/true).contains("disturbed"));
  EXPECT_FALSE(forward_of_fc1(0.003, 0).contains("disturbed"));
}

TEST(Rows, fewer_than_six_samples_have_no_interval) {
  const StepProgram p = program();
  Measurement m = measured(p);
  m.samples.step_s.resize(5);
  for (auto& series : m.samples.pass_s) series.resize(5);
  const auto all = rows(case_id(), {}, p, m);
  for (const char* key : {"ci95_low_s", "ci95_high_s", "ratio_time_ci95_low"}) {
    EXPECT_FALSE(row(all, "step").contains(key)) << key;
  }
  EXPECT_TRUE(row(all, "step").contains("ratio_time"));
}

TEST(Rows, many_samples_are_thinned_alike_and_their_number_told) {
  const StepProgram p = program();
  Measurement m = measured(p);
  for (auto* series : {&m.samples.step_s, &m.samples.pass_s[0], &m.samples.pass_s[1], &m.samples.pass_s[2]}) {
    series->clear();
    for (int i = 0; i < 5000; ++i) series->push_back(1 + i);
  }
  const auto all = rows(case_id(), {}, p, m);
  EXPECT_EQ(row(all, "step")["sample_count"], 5000);
  EXPECT_LE(row(all, "step")["samples_s"].size(), 200u);
  EXPECT_EQ(row(all, "step")["samples_s"], row(all, "forward")["samples_s"]) << "pairs stay pairs";
}

TEST(Rows, a_phase_that_was_never_marked_is_skipped_and_passes_are_not) {
  const StepProgram p = program();
  Measurement m = measured(p);
  for (auto& series : m.samples.phase_s) series.clear();
  const auto all = rows(case_id(), {}, p, m);
  expect_contract(all);
  EXPECT_EQ(row(all, "backward_data")["status"], "skipped");
  EXPECT_THAT(row(all, "backward_data")["reason"].get<std::string>(), HasSubstr("no step with phase marks"));
  for (const char* pass : {"forward", "backward", "update", "step"}) EXPECT_EQ(row(all, pass)["status"], "ok") << pass;
}

TEST(Rows, a_layer_that_was_never_marked_is_skipped_and_says_why) {
  const StepProgram p = program();
  Measurement m = measured(p);
  m.samples.layers.clear();
  const auto all = rows(case_id(), {}, p, m);
  expect_contract(all);
  const Json& fc1 = row(all, "layer:fc1/forward");
  EXPECT_EQ(fc1["status"], "skipped");
  EXPECT_THAT(fc1["reason"].get<std::string>(), HasSubstr("no step with layer marks"));
  EXPECT_EQ(fc1["error_occurred"], true);
  EXPECT_EQ(row(all, "forward")["status"], "ok");
}

TEST(Rows, a_case_that_was_skipped_or_failed_gives_all_its_rows_with_the_reason_and_zero_times) {
  const StepProgram p = program();
  const size_t as_many = rows(case_id(), {}, p, measured(p)).size();
  for (const Status status : {Status::kSkipped, Status::kFailed}) {
    Measurement m;
    m.status = status;
    m.reason = "needs 12 GiB of memory, 8 GiB may be used";
    const auto all = rows(case_id(), {}, p, m);
    expect_contract(all);
    EXPECT_EQ(all.size(), as_many) << "nothing vanishes";
    for (const Json& r : all) {
      EXPECT_EQ(r["status"], to_string(status));
      EXPECT_EQ(r["reason"], m.reason);
      EXPECT_EQ(r["error_message"], std::string(to_string(status)) + ": " + m.reason);
      EXPECT_EQ(r["real_time"], 0.0);
      EXPECT_EQ(r["cpu_time"], 0.0);
      EXPECT_EQ(r["iterations"], 0);
      EXPECT_FALSE(r.contains("median_s"));
      EXPECT_FALSE(r.contains("ratio_time"));
    }
    EXPECT_EQ(row(all, "step")["ratio_flop"], ratio(totals(p).phases, &Cost::flop).plain) << "counted, not measured";
    EXPECT_EQ(row(all, "forward")["flop"], 2 * 4 * (6 * 5 + 5 * 3));
  }
}

TEST(Rows, a_case_that_failed_after_it_was_planned_keeps_its_plan) {
  const StepProgram p = program();
  Measurement m = measured(p);
  m.status = Status::kFailed;
  m.reason = "fc1: 3 where 2 is right";
  m.samples = {};
  const auto all = rows(case_id(), {}, p, m);
  expect_contract(all);
  EXPECT_EQ(row(all, "layer:fc1/forward")["implementation"], "gemm");
  EXPECT_EQ(row(all, "layer:relu1/forward")["fused_into"], "fc1");
  EXPECT_EQ(row(all, "layer:relu1/forward")["status"], "failed");
  EXPECT_EQ(row(all, "step")["memory_planned_bytes"], 1234);
}

TEST(Rows, an_unverified_case_has_times_and_says_that_it_is) {
  const StepProgram p = program();
  Measurement m = measured(p);
  m.status = Status::kUnverified;
  m.reason = "--verify=off";
  const auto all = rows(case_id(), {}, p, m);
  expect_contract(all);
  EXPECT_EQ(row(all, "forward")["status"], "unverified");
  EXPECT_EQ(row(all, "forward")["reason"], "--verify=off");
  EXPECT_DOUBLE_EQ(row(all, "forward")["median_s"], 0.0055);
  EXPECT_FALSE(row(all, "forward").contains("error_occurred"));
}

TEST(Rows, repetitions_are_numbered) {
  const StepProgram p = program();
  for (const Json& r : rows(case_id(), {.index = 2, .count = 5}, p, measured(p))) {
    EXPECT_EQ(r["repetition_index"], 2);
    EXPECT_EQ(r["repetitions"], 5);
  }
}

TEST(Rows, names_are_spec_batch_dtype_optimizer_backend) {
  const CaseId id{.model = "DeeperConvNet:depth=10",
                  .model_name = "DeeperConvNet",
                  .model_parameters = {{"depth", 10}},
                  .batch = 64,
                  .dtype = "f32",
                  .optimizer = "adam",
                  .backend = "reference",
                  .threads = 1};
  EXPECT_EQ(id.name(), "DeeperConvNet:depth=10/batch:64/dtype:f32/optimizer:adam/backend:reference");
}

TEST(CostReport, layers_add_up_to_totals_and_totals_to_ratios) {
  for (const NamedNetwork& named : small_networks()) {
    for (const char* optimizer : {"sgd", "adam"}) {
      SCOPED_TRACE(named.name);
      const Network net = network_from(named.json);
      const StepProgram p = lower(net, 3, optimizer_named(optimizer));
      const Json report = cost_json(net, p);
      EXPECT_EQ(report["schema"], 1);
      EXPECT_EQ(report["model"], net.spec);
      EXPECT_EQ(report["batch"], 3);
      EXPECT_EQ(report["dtype"], "f32");
      EXPECT_EQ(report["optimizer"], optimizer);
      EXPECT_EQ(report["parameters"], parameter_count(p));
      EXPECT_EQ(report["layers"].size(), net.layers.size() + 1) << "and the loss";
      std::map<std::string, std::map<std::string, int64_t>> sums;
      for (const Json& layer : report["layers"]) {
        for (const auto& [phase, costs] : layer["phases"].items()) {
          for (const auto& [key, value] : costs.items()) sums[phase][key] += value.get<int64_t>();
        }
      }
      EXPECT_EQ(report["totals"].size(), sums.size());
      for (const auto& [phase, costs] : sums) {
        EXPECT_EQ(costs.size(), 4u);
        for (const auto& [key, sum] : costs) EXPECT_EQ(report["totals"][phase][key], sum) << phase << " " << key;
      }
      const double backward = static_cast<double>(sums["backward_data"]["flop"] + sums["backward_weights"]["flop"]);
      const double forward = static_cast<double>(sums["forward"]["flop"]);
      EXPECT_DOUBLE_EQ(report["ratio"]["flop"], backward / forward);
      EXPECT_DOUBLE_EQ(report["ratio"]["flop_with_update"],
                       (backward + static_cast<double>(sums["update"]["flop"])) / forward);
      int64_t memory = 0;
      for (const auto& [part, bytes] : report["memory_bytes"].items())
        memory += part == "total" ? 0 : bytes.get<int64_t>();
      EXPECT_EQ(report["memory_bytes"]["total"], memory);
    }
  }
}

TEST(CostReport, the_table_names_the_model_every_layer_and_the_ratios) {
  const Network net = network_from(kModel);
  const std::string text = cost_table(net, lower(net, 4, Sgd{}));
  EXPECT_THAT(text, HasSubstr("two, batch 4, f32, sgd: 53 parameters\n"));
  for (const char* part : {"fc1", "relu1", "fc2", "loss", "all", "backward_weights", "backward / forward",
                           "first layers' share of the forward FLOP: 0.666667\n", "memory: "}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

}  // namespace
}  // namespace triphase
