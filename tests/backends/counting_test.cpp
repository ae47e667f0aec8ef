// SPDX-License-Identifier: Apache-2.0
// The formulas of flop_executed and flop_unpadded against the operations that the reference executes on the counting
// scalar, for every op kind over random shapes.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "backends/reference/interpreter.h"
#include "networks.h"
#include "program/initial.h"
#include "program/precision.h"

namespace triphase {
namespace {

// Runs a program on Counted and compares each op with its formula. Adds the kinds seen to `seen`.
void expect_counts_match(const StepProgram& program, std::map<std::string, int>& seen) {
  Interpreter<Counted> interpreter(program);
  for (TensorId id = 0; id < static_cast<TensorId>(program.tensors.size()); ++id) {
    const Tensor& tensor = program.tensor(id);
    if (tensor.producer >= 0) continue;
    const InitialValues initial(program, id, 1);
    auto& values = interpreter[id];
    for (int64_t i = 0; i < element_count(tensor.type.shape); ++i) values.emplace_back(initial(i));
  }
  for (const Op& op : program.ops) {
    const int64_t before = Counted::count();
    interpreter.run(op);
    const std::string name(name_of(op.kind));
    const int64_t executed = Counted::count() - before;  // cost() counts too, on the optimizers
    EXPECT_EQ(executed, cost(program, op).flop_executed)
        << name << " of " << program.layers[static_cast<size_t>(op.layer)].name << ", batch " << program.batch;
    ++seen[name];
  }
}

TEST(Counting, executed_flop_of_every_op_and_optimizer_is_what_the_reference_executes) {
  std::map<std::string, int> seen;
  for (const NamedNetwork& named : small_networks()) {
    for (const std::string& optimizer : optimizer_names()) {
      expect_counts_match(lower(network_from(named.json), 3, optimizer_named(optimizer)), seen);
    }
    for (const Precision precision : {Precision::kBF16, Precision::kF16}) {
      expect_counts_match(with_precision(lower(network_from(named.json), 3, Sgd{}), precision), seen);
    }
  }
  EXPECT_EQ(seen.size(), std::variant_size_v<OpKind>);
}

struct RandomSize {
  std::mt19937_64 engine;
  int64_t operator()(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(engine() % static_cast<uint64_t>(high - low + 1));
  }
};

TEST(Counting, executed_flop_matches_over_random_linear_shapes) {
  RandomSize random{std::mt19937_64(7)};
  std::map<std::string, int> seen;
  for (int trial = 0; trial < 60; ++trial) {
    const nlohmann::json json = {
        {"name", "random"},
        {"input", {{"shape", {random(1, 9)}}}},
        {"loss", {{"kind", random(0, 1) ? "softmax_cross_entropy" : "mean_square"}}},
        {"layers",
         {{{"name", "a"}, {"kind", "linear"}, {"out_features", random(1, 9)}, {"bias", random(0, 1) == 1}},
          {{"name", "r"}, {"kind", "relu"}},
          {{"name", "b"}, {"kind", "linear"}, {"out_features", random(1, 9)}, {"bias", random(0, 1) == 1}}}}};
    expect_counts_match(lower(parse_network(json, nlohmann::json::object()), random(1, 6), Sgd{}), seen);
  }
}

TEST(Counting, executed_flop_matches_over_random_convolutions_and_pools) {
  RandomSize random{std::mt19937_64(11)};
  std::map<std::string, int> seen;
  int run = 0;
  for (int trial = 0; trial < 300; ++trial) {
    const int64_t groups = random(1, 3);
    const auto pair = [&](int64_t low, int64_t high) { return nlohmann::json{random(low, high), random(low, high)}; };
    const nlohmann::json pool_kernel = pair(1, 3);
    const nlohmann::json pool_padding = {random(0, pool_kernel[0].get<int64_t>() / 2),
                                         random(0, pool_kernel[1].get<int64_t>() / 2)};
    const nlohmann::json json = {{"name", "random"},
                                 {"input", {{"shape", {groups * random(1, 2), random(1, 9), random(1, 9)}}}},
                                 {"loss", {{"kind", "mean_square"}}},
                                 {"layers",
                                  {{{"name", "a"},
                                    {"kind", "conv2d"},
                                    {"out_channels", groups * random(1, 3)},
                                    {"groups", groups},
                                    {"kernel", pair(1, 4)},
                                    {"stride", pair(1, 3)},
                                    {"padding", pair(0, 5)},
                                    {"dilation", pair(1, 2)},
                                    {"bias", random(0, 1) == 1}},
                                   {{"name", "p"},
                                    {"kind", random(0, 1) ? "max_pool2d" : "avg_pool2d"},
                                    {"kernel", pool_kernel},
                                    {"stride", pair(1, 3)},
                                    {"padding", pool_padding}},
                                   {{"name", "b"},
                                    {"kind", "conv2d"},
                                    {"out_channels", random(1, 3)},
                                    {"kernel", pair(1, 3)},
                                    {"stride", pair(1, 3)},
                                    {"padding", pair(0, 3)},
                                    {"dilation", pair(1, 3)}}}}};
    StepProgram program;
    try {
      program = lower(parse_network(json, nlohmann::json::object()), random(1, 3), Sgd{});
    } catch (const InputError&) {
      continue;  // a window larger than its input
    }
    ++run;
    expect_counts_match(program, seen);
  }
  EXPECT_GT(run, 100);
}

}  // namespace
}  // namespace triphase
