// SPDX-License-Identifier: Apache-2.0
// What is known of a machine, to a file and back; and rows and explanations that are made from it.
#include "report/ceilings_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "core/error.h"
#include "report/explain.h"

namespace triphase {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

KnownMachine known() {
  Ceiling gemm{"gemm", "f32", "", "8x8x8", 2, 768, false, 2e11, Interval{1.9e11, 2.1e11}, 2.2e11, 7};
  Ceiling load{"load", "", "L2", "", 2, 1 << 20, true, 5e-9, {}, 4e-9, 3};
  return {"onednn",
          2,
          "abc",
          "2026-01-01T00:00:00+00:00",
          12.5,
          {gemm, load},
          {{"linear forward", {1, 0.5}}},
          CalibrationFit{3, 40, 0.1, 0.25},
          {}};
}

TEST(CeilingsFile, is_read_back_as_it_was_written) {
  const nlohmann::json json = nlohmann::json::parse(to_json(known()).dump());
  const KnownMachine read = known_machine(json, "file");
  EXPECT_EQ(to_json(read), to_json(known()));
  EXPECT_EQ(read.ceilings.size(), 2u);
  EXPECT_TRUE(read.ceilings[1].latency);
  EXPECT_FALSE(read.ceilings[1].ci95);
  EXPECT_EQ(read.factors, known().factors);
}

TEST(CeilingsFile, without_calibration_has_no_factors) {
  KnownMachine plain = known();
  plain.fit.reset();
  plain.factors.clear();
  const KnownMachine read = known_machine(nlohmann::json::parse(to_json(plain).dump()), "file");
  EXPECT_FALSE(read.fit);
  EXPECT_TRUE(read.factors.empty());
}

TEST(KnownMachine, is_as_fast_as_its_gauge_says_unless_others_disturbed_it) {
  KnownMachine machine = known();
  machine.ceilings.push_back({"gauge_arithmetic", "", "", "", 2, 0, false, 4e11, {}, 4e11, 7});
  Measurement measured;
  measured.readings = {{{"gauge_arithmetic", 1e11}}};
  EXPECT_EQ(machine.speed(measured).arithmetic, 0.25);
  measured.disturbed = true;
  EXPECT_EQ(machine.speed(measured).arithmetic, 1);
}

TEST(CeilingsFile, that_is_wrong_is_refused_by_file_and_path) {
  const auto refusal = [](const std::function<void(nlohmann::json&)>& spoil) -> std::string {
    nlohmann::json json = nlohmann::json::parse(to_json(known()).dump());
    spoil(json);
    try {
      known_machine(json, "file");
    } catch (const InputError& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_THAT(refusal([](auto& j) { j = nlohmann::json::array(); }), HasSubstr("file: expected key \"schema\""));
  EXPECT_THAT(refusal([](auto& j) { j["schema"] = 99; }), HasSubstr("file/schema: expected schema 3"));
  EXPECT_THAT(refusal([](auto& j) { j.erase("rates"); }), HasSubstr("file: expected key \"rates\""));
  EXPECT_THAT(refusal([](auto& j) { j["rates"] = 3; }), HasSubstr("file/rates: expected a list"));
  EXPECT_THAT(refusal([](auto& j) { j["rates"][0]["value"] = 0; }),
              HasSubstr("file/rates/0/value: expected a number above"));
  EXPECT_THAT(refusal([](auto& j) { j["rates"][0]["value"] = "fast"; }),
              HasSubstr("file/rates/0/value: expected a number"));
  EXPECT_THAT(refusal([](auto& j) { j["rates"][1]["threads"] = -1; }), HasSubstr("file/rates/1/threads"));
  EXPECT_THAT(refusal([](auto& j) { j["calibration"]["factors"]["linear forward"][1] = -1; }),
              HasSubstr("file/calibration/factors/linear forward/1"));
  EXPECT_THAT(refusal([](auto& j) { j["backend"] = 1; }), HasSubstr("triphase_ceilings --remeasure"));
}

TEST(CeilingsFile, lies_where_the_environment_says) {
  const char* before = std::getenv("TRIPHASE_CACHE");
  const std::string kept = before == nullptr ? "" : before;
  setenv("TRIPHASE_CACHE", "/some/where", 1);
  EXPECT_EQ(ceilings_path("f00", "onednn", 4), "/some/where/ceilings-f00-onednn-4threads.json");
  setenv("TRIPHASE_CACHE", "", 1);
  setenv("XDG_CACHE_HOME", "/cache", 1);
  EXPECT_EQ(ceilings_path("f00", "onednn", 4), "/cache/triphase/ceilings-f00-onednn-4threads.json");
  unsetenv("XDG_CACHE_HOME");
  if (before == nullptr) {
    unsetenv("TRIPHASE_CACHE");
  } else {
    setenv("TRIPHASE_CACHE", kept.c_str(), 1);
  }
}

TEST(CeilingsTable, names_units_and_how_well_the_prediction_fits) {
  const std::string text = ceilings_table(known());
  EXPECT_THAT(text, HasSubstr("200.0 GFLOP/s"));
  EXPECT_THAT(text, HasSubstr("5.000 ns"));
  EXPECT_THAT(text, HasSubstr("median 10.0 %, 90 % within 25.0 %"));
  EXPECT_THAT(text, Not(HasSubstr("trusted")));
}

TEST(Doubts, are_signs_of_a_busy_machine) {
  EXPECT_THAT(doubts(known()), IsEmpty());

  KnownMachine busy = known();
  busy.switches_per_s = 1234;
  EXPECT_THAT(doubts(busy), ElementsAre("other programs took a processor away 1234 times a second"));
  EXPECT_THAT(ceilings_table(busy), HasSubstr("Not to be trusted: while these were measured other programs"));

  KnownMachine slow = known();
  slow.ceilings.push_back(slow.ceilings[0]);
  slow.ceilings.back().threads = 1;
  EXPECT_THAT(doubts(slow), IsEmpty());  // as fast on one
  slow.ceilings.back().value *= 1.5;
  EXPECT_THAT(doubts(slow), ElementsAre("products in f32 were slower on 2 threads than on one"));
  slow.ceilings.back().kernel = "call";
  EXPECT_THAT(doubts(slow), IsEmpty());
}

TEST(CeilingsFile, tells_that_ceilings_have_risen_since) {
  KnownMachine raised = known();
  raised.remeasured = {"2026-02-01T00:00:00+00:00", "Net/batch:1", 1.25, {{"gemm f32", 2e11, 2.5e11}}};
  const KnownMachine read = known_machine(nlohmann::json::parse(to_json(raised).dump()), "file");
  EXPECT_EQ(to_json(read), to_json(raised));
  EXPECT_THAT(ceilings_table(read),
              HasSubstr("measured again at 2026-02-01T00:00:00+00:00, as Net/batch:1 ran at 125 % "
                        "of its ceiling; risen: gemm f32 by 25.0 %\n"));
  EXPECT_THAT(ceilings_table(known()), Not(HasSubstr("again")));
}

TEST(Doubts, are_none_of_a_device_or_of_a_file_from_before_they_were_counted) {
  KnownMachine device = known();
  device.switches_per_s.reset();
  const nlohmann::json json = nlohmann::json::parse(to_json(device).dump());
  EXPECT_FALSE(json.contains("involuntary_switches_per_s"));
  EXPECT_FALSE(known_machine(json, "file").switches_per_s);
  EXPECT_THAT(doubts(device), IsEmpty());
}

nlohmann::ordered_json row(const char* layer, const char* phase, double s, double roofline_s) {
  nlohmann::ordered_json json = {{"phase", phase}, {"median_s", s}, {"roofline_s", roofline_s}, {"bound", "L2"}};
  if (layer != nullptr) json["layer"] = layer;
  return json;
}

TEST(Explain, lists_layers_by_what_they_lost) {
  const std::string text = explain({row(nullptr, "forward", 0.6, 0.5), row(nullptr, "step", 1, 0.5),
                                    row("small", "forward", 0.2, 0.19), row("large", "forward", 0.4, 0.1)});
  EXPECT_LT(text.find("large"), text.find("small"));
  EXPECT_THAT(text, HasSubstr("25.0 %"));  // large reaches a quarter of its ceiling
  EXPECT_THAT(text,
              HasSubstr("biggest loss: large forward, 300.0 ms beyond what its bound (L2) allows, 30.0 % of the step"));
}

TEST(Explain, lists_what_runs_within_another_layer) {
  const nlohmann::ordered_json step = {
      {"phase", "step"}, {"median_s", 1.0}, {"roofline_s", 0.5}, {"bound", "compute"}, {"flop", 2}};
  const nlohmann::ordered_json fused = {{"layer", "relu1"}, {"phase", "forward"}, {"fused_into", "conv1"}};
  const std::string text = explain({step, fused});
  EXPECT_THAT(text, testing::ContainsRegex("relu1 +forward +- .*within conv1"));
}

TEST(Explain, says_what_is_missing) {
  nlohmann::ordered_json plain = {{"phase", "step"}, {"median_s", 1.0}, {"backend", "onednn"}, {"threads", 3}};
  EXPECT_THAT(explain({plain}), HasSubstr("run triphase_ceilings --backend=onednn --threads=3 first"));
}

}  // namespace
}  // namespace triphase
