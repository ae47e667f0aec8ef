// SPDX-License-Identifier: Apache-2.0
// What a step asks of a machine, the roofline over it, and factors that are planted and found again.
#include "measure/prediction.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <random>
#include <set>

#include "backends/reference/reference.h"
#include "extents.h"
#include "model/files.h"
#include "model/suite.h"
#include "networks.h"
#include "program/precision.h"
#include "program/totals.h"
#include "rates.h"

namespace triphase {
namespace {

constexpr double kSlowFlops = 100;  // FLOP a second, so that times are long and exact

// A machine that moves `near` bytes a second within 1300 bytes and `far` beyond, and may multiply bf16 four times as
// fast as f32.
Machine machine(double near, double far, bool has_bf16 = false) {
  std::vector<Ceiling> all = {rate("gemm", "", 0, kSlowFlops), rate("convolution", "", 0, kSlowFlops),
                              rate("call", "", 0, 1e-9, true), rate("fork_join", "", 0, 1e-9, true)};
  for (const char* kernel : {"read", "write", "update"}) {
    all.push_back(rate(kernel, "L1", 1300, near));
    all.push_back(rate(kernel, "memory", 1301, far));
  }
  all.push_back(rate("load", "L1", 1300, 1e-9, true));
  for (const char* kernel : {"gemm", "convolution"}) {
    if (!has_bf16) break;
    all.push_back(rate(kernel, "", 0, 4 * kSlowFlops));
    all.back().dtype = "bf16";
  }
  return {all, 1};
}

// One group an op.
std::vector<Group> unfused(const StepProgram& program) {
  std::vector<Group> groups;
  for (int i = 0; i < static_cast<int>(program.ops.size()); ++i) groups.push_back({{i}, "op", 0});
  return groups;
}

std::vector<const Demand*> pointers(const std::vector<Demand>& demands) {
  std::vector<const Demand*> result;
  for (const Demand& demand : demands) result.push_back(&demand);
  return result;
}

class EveryNetwork : public testing::TestWithParam<NamedNetwork> {};

// Two ways to the same number: bytes by levels here, and the sum over operands that the cost makes.
TEST_P(EveryNetwork, moves_its_traffic_whatever_level_it_comes_from) {
  const StepProgram program = lower(network_from(GetParam().json), 3, Sgd{});
  const double rate = 10;
  const auto all = demands(program, unfused(program), apart(program), machine(rate, rate));
  ASSERT_TRUE(all);
  double expected = 0;
  double found = 0;
  for (size_t i = 0; i < program.ops.size(); ++i) {
    if (!std::holds_alternative<Reshape>(program.ops[i].kind)) {
      expected += static_cast<double>(cost(program, program.ops[i]).traffic_bytes);
      std::set<TensorId> seen;  // an operand that comes twice is moved once
      for (const TensorId id : program.ops[i].inputs) {
        if (!seen.insert(id).second) expected -= static_cast<double>(size_in_bytes(program.tensor(id).type));
      }
    }
    for (const auto& [level, s] : (*all)[i].level_s) found += s * rate;
  }
  EXPECT_NEAR(found, expected, 1e-6 * expected);
}

TEST_P(EveryNetwork, has_the_arithmetic_of_its_contractions) {
  const StepProgram program = lower(network_from(GetParam().json), 3, Sgd{});
  const auto all = demands(program, unfused(program), apart(program), machine(10, 10));
  ASSERT_TRUE(all);
  for (size_t i = 0; i < program.ops.size(); ++i) {
    const Cost of = cost(program, program.ops[i]);
    const bool contracts = of.flop > 0 && program.ops[i].phase != Phase::kUpdate;
    EXPECT_DOUBLE_EQ((*all)[i].flop_s,
                     static_cast<double>(contracts ? of.flop_unpadded : of.flop_executed) / kSlowFlops);
    EXPECT_EQ((*all)[i].layer, program.ops[i].layer);
    for (const double term : (*all)[i].terms_s) EXPECT_GE(term, 0);
  }
}

TEST_P(EveryNetwork, is_held_against_ceilings_and_factors_of_its_own_precision) {
  const StepProgram f32 = lower(network_from(GetParam().json), 3, Sgd{});
  const StepProgram bf16 = with_precision(f32, Precision::kBF16);
  EXPECT_FALSE(demands(bf16, unfused(bf16), apart(bf16), machine(10, 10))) << "nobody measured it";
  const auto slow = demands(f32, unfused(f32), apart(f32), machine(10, 10, true));
  const auto fast = demands(bf16, unfused(bf16), apart(bf16), machine(10, 10, true));
  ASSERT_TRUE(slow && fast);
  for (const bool contracts : {true, false}) {
    const auto flop_s = [&](const StepProgram& program, const std::vector<Demand>& all) {
      double sum = 0;
      for (size_t i = 0; i < program.ops.size(); ++i) {
        const bool does = cost(program, program.ops[i]).flop > 0 && program.ops[i].phase != Phase::kUpdate;
        if (does == contracts) sum += all[i].flop_s;
      }
      return sum;
    };
    EXPECT_NEAR(flop_s(f32, *slow), (contracts ? 4 : 1) * flop_s(bf16, *fast), 1e-9 * flop_s(f32, *slow));
  }
  Factors factors;
  for (const Demand& demand : *slow) factors[demand.family] = std::vector<double>(demand.terms_s.size(), 1.0);
  for (const Demand& demand : *slow) EXPECT_TRUE(predicted_s({&demand}, factors));
  for (const Demand& demand : *fast) EXPECT_FALSE(predicted_s({&demand}, factors)) << demand.family;
}

INSTANTIATE_TEST_SUITE_P(Demands, EveryNetwork, testing::ValuesIn(small_networks()),
                         [](const auto& instance) { return instance.param.name; });

constexpr const char* kTwo = R"({"name": "two", "input": {"shape": [100]}, "loss": {"kind": "mean_square"},
  "layers": [{"name": "fc1", "kind": "linear", "out_features": 2, "bias": false},
             {"name": "fc2", "kind": "linear", "out_features": 100, "bias": false}]})";

// fc1's weight gradient (800 bytes) was written a step ago and its input (400) read in the forward phase, behind
// everything else; the gradient of its output and what the loss reads were written just before.
TEST(Demands, find_near_what_was_touched_just_before) {
  const StepProgram program = lower(network_from(kTwo), 1, Sgd{});
  const auto all = demands(program, unfused(program), apart(program), machine(1e9, 1));
  ASSERT_TRUE(all);
  for (size_t i = 0; i < program.ops.size(); ++i) {
    const Op& op = program.ops[i];
    const std::map<std::string, double>& level_s = (*all)[i].level_s;
    const std::string& layer = program.layers[static_cast<size_t>(op.layer)].name;
    if (layer == "fc1" && op.phase == Phase::kBackwardWeights) {
      EXPECT_DOUBLE_EQ(level_s.at("memory"), 1200);
    }
    if (std::holds_alternative<MeanSquare>(op.kind)) {
      EXPECT_TRUE(level_s.contains("L1"));
    }
  }
}

// A whole step, byte by byte: in a cache of 1300 bytes, the least recently touched goes first.
int64_t bytes_from_memory(const StepProgram& program, const std::vector<Extent>& extents) {
  constexpr int64_t kCacheBytes = 1300;
  std::vector<std::pair<int, size_t>> touched_at;  // by byte: when last, and itself
  for (const Extent& extent : extents) {
    for (auto byte = touched_at.size(); byte < static_cast<size_t>(extent.begin + extent.bytes); ++byte) {
      touched_at.emplace_back(-1, byte);
    }
  }
  int64_t from_memory = 0;
  int time = 0;
  for (const bool counts : {false, true}) {
    for (const Op& op : program.ops) {
      if (std::holds_alternative<Reshape>(op.kind)) continue;
      ++time;
      std::set<TensorId> reads;
      for (const TensorId id : op.inputs) {
        if (program.tensor(id).role != Role::kScalars) reads.insert(storage_of(program, id));
      }
      std::vector<char> touched(touched_at.size());
      std::vector<size_t> accessed;
      const auto access = [&](TensorId id) {
        const Extent& extent = extents[static_cast<size_t>(id)];
        for (int64_t byte = extent.begin; byte < extent.begin + extent.bytes; ++byte) {
          accessed.push_back(static_cast<size_t>(byte));
          touched[static_cast<size_t>(byte)] = 1;
        }
      };
      std::ranges::for_each(reads, access);
      std::ranges::for_each(op.outputs, access);
      std::vector<std::pair<int, size_t>> others;
      for (const auto& [at, byte] : touched_at) {
        if (!touched[byte] && at >= 0) others.emplace_back(at, byte);
      }
      std::ranges::sort(others);
      const int64_t own = std::ranges::count(touched, 1);
      for (const size_t byte : accessed) {
        const auto later = others.end() - std::ranges::upper_bound(others, touched_at[byte]);
        from_memory += counts && own + later > kCacheBytes;
      }
      for (size_t byte = 0; byte < touched.size(); ++byte) {
        if (touched[byte]) touched_at[byte].first = time;
      }
    }
  }
  return from_memory;
}

// Two ways again: stretches of operands that lie anyhow over each other, and every byte by itself.
TEST(Demands, find_bytes_where_a_cache_would_wherever_operands_share_memory) {
  const StepProgram program = lower(network_from(kTwo), 3, Sgd{});
  std::mt19937 random(11);
  std::set<int64_t> seen;
  for (int round = 0; round < 30; ++round) {
    std::vector<Extent> extents = apart(program);
    const int64_t room = 400 + 200 * round;
    for (Extent& extent : extents) {
      extent.begin = std::uniform_int_distribution<int64_t>(0, std::max<int64_t>(room - extent.bytes, 0))(random);
    }
    const auto all = demands(program, unfused(program), extents, machine(1e9, 1));
    ASSERT_TRUE(all);
    double found = 0;
    for (const Demand& demand : *all) found += demand.level_s.contains("memory") ? demand.level_s.at("memory") : 0;
    const int64_t expected = bytes_from_memory(program, extents);
    EXPECT_NEAR(found, static_cast<double>(expected), 1e-6) << room;
    seen.insert(expected);
  }
  EXPECT_GT(seen.size(), 10u);
}

// A ReLU in place moves what an update of two operands does; elsewhere it reads and writes.
TEST(Demands, of_what_is_written_over_what_was_read_move_as_an_update_does) {
  const StepProgram program = lower(network_from(R"({"name": "relu", "input": {"shape": [100]},
    "loss": {"kind": "mean_square"}, "layers": [{"name": "fc", "kind": "linear", "out_features": 50},
                                                {"name": "relu", "kind": "relu"}]})"),
                                    1, Sgd{});
  std::vector<Ceiling> rates = {rate("gemm", "", 0, kSlowFlops), rate("call", "", 0, 1e-9, true),
                                rate("fork_join", "", 0, 1e-9, true), rate("load", "L1", 1, 1e-9, true)};
  for (const auto& [kernel, bytes_per_s] : {std::pair("read", 10.0), {"write", 5.0}, {"update", 40.0}}) {
    rates.push_back(rate(kernel, "L1", 1, bytes_per_s));
  }
  const auto relu_s = [&](const std::vector<Extent>& extents) {
    const auto all = demands(program, unfused(program), extents, Machine(rates, 1));
    for (size_t i = 0; i < program.ops.size(); ++i) {
      if (std::holds_alternative<Relu>(program.ops[i].kind)) return (*all)[i].level_s.at("L1");
    }
    throw std::logic_error("no ReLU");
  };
  std::vector<Extent> extents = apart(program);
  EXPECT_DOUBLE_EQ(relu_s(extents), 200 / 10.0 + 200 / 5.0);
  for (const Op& op : program.ops) {
    if (std::holds_alternative<Relu>(op.kind)) {
      extents[static_cast<size_t>(op.outputs[0])] = extents[static_cast<size_t>(op.inputs[0])];
    }
  }
  EXPECT_DOUBLE_EQ(relu_s(extents), 400 / 40.0);
}

TEST(Roofline, of_several_calls_is_their_sum_and_its_bound_is_that_of_most_of_it) {
  Demand forward;
  forward.flop_s = 3;
  forward.level_s = {{"memory", 2}};
  Demand update;
  update.flop_s = 0.5;
  update.level_s = {{"L3", 1}, {"memory", 4}};
  EXPECT_DOUBLE_EQ(roofline({&forward, &update}).s, 3 + 5);  // no less: the update waits for the forward
  EXPECT_EQ(roofline({&forward, &update}).bound, "memory");
  EXPECT_EQ(roofline({&forward, &forward, &update}).bound, "compute");
}

TEST(Roofline, is_the_longest_of_arithmetic_bytes_and_latency) {
  Demand demand;
  demand.flop_s = 3;
  demand.level_s = {{"L2", 1}, {"memory", 1.5}};
  demand.latency_s = 0.1;
  EXPECT_EQ(roofline({&demand}).bound, "compute");
  EXPECT_DOUBLE_EQ(roofline({&demand}).s, 3);
  demand.flop_s = 2;
  EXPECT_EQ(roofline({&demand}).bound, "memory");  // where most of the bytes' time goes
  EXPECT_DOUBLE_EQ(roofline({&demand}).s, 2.5);    // all bytes' time
  demand.latency_s = 4;
  EXPECT_EQ(roofline({&demand}).bound, "latency");
  EXPECT_DOUBLE_EQ(roofline({&demand, &demand}).s, 8);
  EXPECT_DOUBLE_EQ(roofline({}).s, 0);
}

Demand demand(std::string family, std::vector<double> terms) {
  Demand result;
  result.family = std::move(family);
  result.terms_s = std::move(terms);
  return result;
}

TEST(Prediction, is_the_sum_of_terms_times_factors) {
  const Demand a = demand("a", {1, 2});
  const Demand b = demand("b", {10});
  const Factors factors = {{"a", {3, 0.5}}, {"b", {0.1}}};
  EXPECT_DOUBLE_EQ(*predicted_s({&a, &b}, factors), 5);
}

TEST(Prediction, is_never_less_than_the_roofline) {
  Demand bounded = demand("a", {1, 2});
  bounded.level_s["memory"] = 5;
  const Demand free = demand("a", {1, 2});
  EXPECT_DOUBLE_EQ(*predicted_s({&bounded}, {{"a", {1, 1}}}), 5);
  EXPECT_DOUBLE_EQ(*predicted_s({&bounded}, {{"a", {2, 2}}}), 6);
  EXPECT_DOUBLE_EQ(*predicted_s({&bounded, &free}, {{"a", {1, 1}}}), 5 + 3);  // kernel by kernel
}

TEST(Family, of_a_grouped_convolution_is_its_own) {
  const auto families = [](int64_t groups) {
    const std::string conv = R"({"name": "a", "kind": "conv2d", "out_channels": 8, "kernel": 3, "groups": )" +
                             std::to_string(groups) +
                             R"(}, {"name": "b", "kind": "conv2d", "out_channels": 2, "kernel": 1})";
    const StepProgram program =
        lower(parse_network(
                  nlohmann::json::parse(
                      R"({"name": "n", "input": {"shape": [4, 8, 8]}, "loss": {"kind": "mean_square"}, "layers": [)" +
                      conv + "]}"),
                  {}),
              2, Sgd{});
    std::set<std::string> found;
    for (const Group& group : unfused(program)) found.insert(family_of(program, group));
    return found;
  };
  EXPECT_THAT(families(1), testing::Not(testing::Contains(testing::HasSubstr("grouped"))));
  EXPECT_THAT(families(2), testing::IsSupersetOf({"grouped convolution forward", "grouped convolution backward_weights",
                                                  "convolution forward", "convolution backward_data"}));
}

TEST(Prediction, is_absent_for_a_family_that_was_never_seen) {
  const Demand a = demand("a", {1, 2});
  const Demand c = demand("c", {1});
  EXPECT_FALSE(predicted_s({&a, &c}, {{"a", {1, 1}}}));
  EXPECT_FALSE(predicted_s({&a}, {{"a", {1}}}));  // of an older form
}

TEST(Prediction, of_a_product_takes_the_factors_of_its_other_formulation_where_it_has_none) {
  const Demand loop = demand("linear forward by loop", {1, 2});
  const Demand library = demand("linear forward", {1, 2});
  EXPECT_DOUBLE_EQ(*predicted_s({&loop}, {{"linear forward", {3, 0.5}}}), 4);
  EXPECT_DOUBLE_EQ(*predicted_s({&library}, {{"linear forward by loop", {3, 0.5}}}), 4);
}

TEST(Calibration, finds_planted_factors_again_behind_a_tenth_of_outliers) {
  const Factors planted = {{"a", {1.5, 0, 20}}, {"b", {0.25, 3}}};
  std::mt19937 random(5);
  std::lognormal_distribution<double> term(0, 2);
  std::vector<Observation> observations;
  for (int i = 0; i < 300; ++i) {
    Observation item;
    item.demands.push_back(demand("a", {term(random), term(random), term(random) / 20}));
    if (i % 2 == 0) item.demands.push_back(demand("b", {term(random), term(random)}));
    item.measured_s = *predicted_s(pointers(item.demands), planted) * (i % 10 == 3 ? 7 : 1);
    observations.push_back(std::move(item));
  }
  const Factors found = calibrate(observations);
  for (const auto& [family, factors] : planted) {
    ASSERT_EQ(found.at(family).size(), factors.size());
    for (size_t i = 0; i < factors.size(); ++i) {
      EXPECT_NEAR(found.at(family)[i], factors[i], 0.02 * (1 + factors[i])) << family << " " << i;
    }
  }
}

TEST(Calibration, never_gives_a_negative_factor) {
  // The second term goes with less time: the best it can do is nothing.
  std::vector<Observation> observations;
  for (int i = 1; i <= 20; ++i) {
    observations.push_back({{demand("a", {static_cast<double>(i), 20.0 - i})}, static_cast<double>(i) * i, 1});
  }
  const Factors found = calibrate(observations);
  EXPECT_THAT(found.at("a"), testing::Each(testing::Ge(0)));
}

TEST(Calibration, of_nothing_is_nothing) { EXPECT_TRUE(calibrate({}).empty()); }

// What an op computes, as "matmul [4, 5] [5, 6]".
std::set<std::string> kernels(const std::string& suite) {
  std::set<std::string> result;
  const std::string folder = TRIPHASE_SOURCE_DIR "/benchmarks";
  for (const CaseSpec& spec : parse_suite(read_json(folder + "/suites/" + suite + ".json"))) {
    const StepProgram program =
        lower(load_network(spec.model, folder + "/models"), spec.batch, optimizer_named(spec.optimizer));
    for (const Op& op : program.ops) {
      const bool contracts = cost(program, op).flop > 0 && op.phase != Phase::kUpdate;
      if (!contracts) continue;
      std::string text(name_of(op.kind));
      for (const TensorType& type : program.types(op.inputs)) text += " " + to_string(type.shape);
      for (const TensorType& type : program.types(op.outputs)) text += " " + to_string(type.shape);
      result.insert(text);
    }
  }
  return result;
}

TEST(Calibration, shares_no_kernel_with_the_networks_that_are_measured) {
  const std::set<std::string> calibration = kernels("calibration");
  EXPECT_GT(calibration.size(), 500u);
  for (const char* suite : {"quick", "full", "smoke", "gpu"}) {
    std::set<std::string> both;
    std::ranges::set_intersection(calibration, kernels(suite), std::inserter(both, both.end()));
    EXPECT_THAT(both, testing::IsEmpty()) << suite;
  }
}

TEST(Calibration, has_every_family_of_the_networks_that_are_measured) {
  const auto families = [](const std::string& suite) {
    std::set<std::string> result;
    const std::string folder = TRIPHASE_SOURCE_DIR "/benchmarks";
    for (const CaseSpec& spec : parse_suite(read_json(folder + "/suites/" + suite + ".json"))) {
      const StepProgram program =
          lower(load_network(spec.model, folder + "/models"), spec.batch, optimizer_named(spec.optimizer));
      for (const Group& group : unfused(program)) result.insert(family_of(program, group));
    }
    return result;
  };
  const std::set<std::string> calibration = families("calibration");
  for (const std::string& family : families("full")) EXPECT_TRUE(calibration.contains(family)) << family;
  for (const std::string& family : families("quick")) EXPECT_TRUE(calibration.contains(family)) << family;
}

}  // namespace
}  // namespace triphase
