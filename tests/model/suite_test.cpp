// SPDX-License-Identifier: Apache-2.0
// Suites, ranges, and finding files by name.
#include "model/suite.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "core/error.h"
#include "model/files.h"

namespace triphase {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

std::string refusal(const std::function<void()>& f) {
  try {
    f();
  } catch (const InputError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Range, is_a_list_of_integers_and_of_spans_by_factor_or_step) {
  EXPECT_THAT(parse_range("7", "batch"), ElementsAre(7));
  EXPECT_THAT(parse_range("1,2,4", "batch"), ElementsAre(1, 2, 4));
  EXPECT_THAT(parse_range("1:16:*2", "batch"), ElementsAre(1, 2, 4, 8, 16));
  EXPECT_THAT(parse_range("1:20:*4", "batch"), ElementsAre(1, 4, 16));
  EXPECT_THAT(parse_range("0:100:+25", "depth"), ElementsAre(0, 25, 50, 75, 100));
  EXPECT_THAT(parse_range("0:9:+4", "depth"), ElementsAre(0, 4, 8));
  EXPECT_THAT(parse_range("3:3:*2", "batch"), ElementsAre(3));
  EXPECT_THAT(parse_range("-4:4:+4", "x"), ElementsAre(-4, 0, 4));
  EXPECT_THAT(parse_range("5,1:4:*2,9", "batch"), ElementsAre(5, 1, 2, 4, 9));
  EXPECT_EQ(parse_range("1:1024:*2", "batch").size(), 11u);
}

TEST(Range, ends_where_integers_do) {
  EXPECT_EQ(parse_range("1:9223372036854775807:*2", "batch").size(), 63u);
  EXPECT_THAT(parse_range("9223372036854775806:9223372036854775807:+1", "batch"),
              ElementsAre(INT64_MAX - 1, INT64_MAX));
}

TEST(Range, what_is_no_growing_range_of_integers_is_refused) {
  const std::pair<const char*, const char*> table[] = {
      {"", "expected a list of integers"},
      {"x", "expected an integer, found 'x'"},
      {"1,,2", "expected an integer"},
      {"1,2,", "expected a list of integers"},
      {"1.5", "expected an integer"},
      {" 1", "expected an integer"},
      {"1:4", "from:to:*factor"},
      {"1:4:2", "from:to:*factor or from:to:+step"},
      {"1:4:*", "from:to:*factor"},
      {"1:4:*1", "a range that grows"},
      {"1:4:+0", "a range that grows"},
      {"4:1:*2", "a range that grows"},
      {"0:4:*2", "a range that grows"},
      {"1:4:*-2", "a range that grows"},
      {"1:x:*2", "expected an integer"},
      {"1:4:*2x", "expected an integer"},
      {"0:1000000:+1", "at most 100000 values"},
      {"9223372036854775808", "expected an integer"},
  };
  for (const auto& [text, message] : table) {
    const std::string found = refusal([&] { parse_range(text, "--batch"); });
    EXPECT_THAT(found, HasSubstr("--batch: ")) << text;
    EXPECT_THAT(found, HasSubstr(message)) << text;
  }
}

std::vector<CaseSpec> suite(const std::string& text) { return parse_suite(json::parse(text)); }

TEST(Suite, one_entry_of_a_model_alone_is_one_case_with_defaults) {
  const auto cases = suite(R"([{"model": "OneNet"}])");
  ASSERT_EQ(cases.size(), 1u);
  EXPECT_EQ(cases[0].model.name, "OneNet");
  EXPECT_EQ(cases[0].batch, 1);
  EXPECT_EQ(cases[0].optimizer, "sgd");
  EXPECT_EQ(cases[0].dtype, "f32");
}

TEST(Suite, lists_are_crossed) {
  const auto cases = suite(R"([{"model": "DeeperConvNet", "batch": [1, 4], "optimizer": ["sgd", "adam"],
    "dtype": ["f32"], "parameters": {"depth": [0, 1, 2], "share_weights": [false, true]}}])");
  EXPECT_EQ(cases.size(), 2u * 2 * 3 * 2);
  std::set<std::string> distinct;
  for (const CaseSpec& c : cases) {
    distinct.insert(c.model.parameters.dump() + std::to_string(c.batch) + c.optimizer + c.dtype);
  }
  EXPECT_EQ(distinct.size(), cases.size());
}

TEST(Suite, ranges_stand_for_lists_in_batches_and_parameters) {
  const auto cases = suite(R"([{"model": "DeeperConvNet", "batch": "1:1024:*4", "parameters": {"depth": "0:10:+5"}}])");
  EXPECT_EQ(cases.size(), 6u * 3);
  EXPECT_EQ(cases.back().batch, 1024);
  EXPECT_EQ(cases.back().model.parameters["depth"], 10);
}

TEST(Suite, parameters_of_the_spec_and_of_the_entry_come_together) {
  const auto cases = suite(R"([{"model": "DeeperConvNet:share_weights=true", "parameters": {"depth": 3}}])");
  ASSERT_EQ(cases.size(), 1u);
  EXPECT_EQ(cases[0].model.parameters, (json{{"share_weights", true}, {"depth", 3}}));
}

TEST(Suite, more_cases_than_may_be_are_refused_before_they_are_made) {
  const std::string all = "\"1:100000:+1\"";
  const auto crossed = [&] { suite(R"([{"model": "a", "parameters": {"x": )" + all + R"(, "y": )" + all + "}}]"); };
  EXPECT_THAT(refusal(crossed), HasSubstr("$[0].parameters.y: expected at most 100000 cases, found more"));
  const auto listed = [&] { suite(R"([{"model": "a", "batch": )" + all + R"(}, {"model": "b"}])"); };
  EXPECT_THAT(refusal(listed), HasSubstr("$[1]: expected at most 100000 cases, found more"));

  std::vector<CaseSpec> cases;
  const std::vector<int64_t> batches = parse_range("1:100000:+1", "batch");
  EXPECT_THAT(refusal([&] {
                add_cases({{{"a"}}, batches, {"sgd", "adam"}, {"f32"}}, "", cases);
              }),
              HasSubstr("--model: expected at most 100000 cases"));
  EXPECT_TRUE(cases.empty());
  add_cases({{{"a"}}, batches, {"sgd"}, {"f32"}}, "", cases);
  EXPECT_EQ(cases.size(), 100'000u);
}

TEST(Suite, entries_keep_their_order) {
  const auto cases = suite(R"([{"model": "b", "batch": [2, 1]}, {"model": "a"}])");
  ASSERT_EQ(cases.size(), 3u);
  EXPECT_EQ(cases[0].batch, 2);
  EXPECT_EQ(cases[1].batch, 1);
  EXPECT_EQ(cases[2].model.name, "a");
}

TEST(Suite, what_does_not_read_as_a_suite_is_refused_with_its_path) {
  const std::pair<const char*, const char*> table[] = {
      {"{}", "$: expected a list of entries, one at least, found an object"},
      {"[]", "$: expected a list of entries, one at least, found a list of 0"},
      {"[3]", "$[0]: expected an object, found 3"},
      {R"([{"batch": 1}])", "$[0].model: expected"},
      {R"([{"model": 5}])", "$[0].model: expected a"},
      {R"([{"model": "a", "batch": 0}])", "$[0].batch: expected an integer from 1 to 1099511627776, found 0"},
      {R"([{"model": "a", "batch": []}])", "$[0].batch: expected at least one value, found an empty list"},
      {R"([{"model": "a", "batch": [1, "x"]}])", "$[0].batch: expected an integer"},
      {R"([{"model": "a", "batch": "1:4"}])", "$[0].batch: expected from:to:*factor"},
      {R"([{"model": "a", "batch": 1.5}])", "$[0].batch: expected an integer"},
      {R"([{"model": "a", "optimizer": 3}])", "$[0].optimizer: expected a string or a list of them, found 3"},
      {R"([{"model": "a", "dtype": [1]}])", "$[0].dtype: expected a string or a list of them, found 1"},
      {R"([{"model": "a", "parameters": [1]}])", "$[0].parameters: expected an object, found a list of 1"},
      {R"([{"model": "a", "parameters": {"depth": []}}])", "$[0].parameters.depth: expected at least one value"},
      {R"([{"model": "a"}, {"model": "b", "batches": 1}])", "$[1].batches: expected only the keys"},
      {R"([{"model": "a:depth"}])", "name=integer"},
      {R"([{"model": "a", "batch": "1:100000:+1", "parameters": {"d": [1, 2]}}])",
       "$[0]: expected at most 100000 cases"},
  };
  for (const auto& [text, message] : table) EXPECT_THAT(refusal([&] { suite(text); }), HasSubstr(message)) << text;
}

TEST(Suite, every_suite_of_benchmarks_names_models_that_lower) {
  const std::string folder = TRIPHASE_SOURCE_DIR "/benchmarks";
  int suites = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder + "/suites")) {
    SCOPED_TRACE(entry.path());
    ++suites;
    for (const CaseSpec& c : parse_suite(read_json(entry.path()))) {
      EXPECT_NO_THROW(lower(load_network(c.model, folder + "/models"), c.batch, optimizer_named(c.optimizer)));
    }
  }
  EXPECT_GT(suites, 0);
}

TEST(Files, every_model_of_benchmarks_is_named_as_its_file) {
  const std::string folder = TRIPHASE_SOURCE_DIR "/benchmarks/models";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".json") continue;
    EXPECT_EQ(load_network({entry.path().stem()}, folder).name, entry.path().stem());
  }
}

TEST(Files, names_are_found_whatever_their_case) {
  const std::string folder = TRIPHASE_SOURCE_DIR "/benchmarks/models";
  const std::string path = folder + "/LinearNet.json";
  for (const char* name : {"LinearNet", "linearnet", "LINEARNET", "lInEaRnEt"}) {
    EXPECT_EQ(find_json(name, folder, "model"), path);
  }
  EXPECT_EQ(find_json("anything/at/all.json", folder, "model"), "anything/at/all.json")
      << "a path is left to the reader";
}

TEST(Files, an_unknown_name_is_answered_with_those_there_are) {
  const std::string folder = TRIPHASE_SOURCE_DIR "/benchmarks/models";
  const std::string found = refusal([&] { find_json("LinearNetz", folder, "model"); });
  EXPECT_THAT(found, HasSubstr("model: expected a .json file or one of "));
  EXPECT_THAT(found, HasSubstr("ConvNet, DeeperConvNet, "));
  EXPECT_THAT(found, HasSubstr("found 'LinearNetz'"));
  EXPECT_THAT(refusal([] { find_json("x", "/no/such/folder", "suite"); }), HasSubstr("suite: expected a .json file"));
}

class TemporaryFile : public testing::Test {
 protected:
  void SetUp() override { path_ = testing::TempDir() + "triphase_" + std::to_string(getpid()) + ".json"; }
  void TearDown() override { std::filesystem::remove(path_); }
  void write(const std::string& text) const { std::ofstream(path_) << text; }

  std::string path_;
};

TEST_F(TemporaryFile, that_is_missing_or_a_folder_is_refused_by_its_name) {
  EXPECT_EQ(refusal([&] { read_json(path_); }), path_ + ": expected a file, found No such file or directory");
  EXPECT_THAT(refusal([&] { read_json(testing::TempDir()); }), HasSubstr("expected a file, found a folder"));
  EXPECT_THAT(refusal([&] { read_json("/dev/null"); }), HasSubstr("expected a file, found something else"));
}

TEST_F(TemporaryFile, with_a_key_twice_in_an_object_is_refused) {
  write(R"([{"depth": 1, "inner": {"depth": 2}}, {"depth": 3}])");
  EXPECT_EQ(read_json(path_).size(), 2u);
  write(R"([{"depth": 1, "inner": {"width": 2, "width": 2}}])");
  EXPECT_EQ(refusal([&] { read_json(path_); }), path_ + ": expected each key of an object once, found \"width\" twice");
}

TEST_F(TemporaryFile, that_is_no_JSON_is_refused_with_the_position_on_one_line) {
  for (const char* text : {"", "{", "{\"a\": }", "[1,\n2,\n", "nan", "{\"a\": 1} x"}) {
    write(text);
    const std::string found = refusal([&] { read_json(path_); });
    EXPECT_THAT(found, HasSubstr(path_ + ": expected valid JSON, found parse error at line")) << text;
    EXPECT_EQ(found.find('\n'), std::string::npos) << text;
  }
}

TEST_F(TemporaryFile, of_more_than_16_MiB_is_refused) {
  std::filesystem::resize_file((write("{}"), path_), (16 << 20) + 1);
  EXPECT_THAT(refusal([&] { read_json(path_); }), HasSubstr("expected at most 16 MiB of JSON, found 16777217 bytes"));
}

TEST_F(TemporaryFile, holding_a_bad_model_is_named_before_the_path_within) {
  write(R"({"name": "bad", "input": {"shape": [0]}, "loss": {"kind": "mean_square"}, "layers": []})");
  EXPECT_THAT(refusal([&] { load_network({path_}, "unused"); }), HasSubstr(path_ + ": $.input.shape[0]: expected"));
}

}  // namespace
}  // namespace triphase
