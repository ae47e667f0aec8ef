// SPDX-License-Identifier: Apache-2.0
// Exact counts of the networks in benchmarks/models: FLOP of forward and backward, parameters, and the ratios that
// follow. The figures for ResNets are those of PyTorch's FlopCounterMode on torchvision's models. Nothing is timed.
#include <gtest/gtest.h>

#include <cmath>

#include "model/files.h"
#include "model/network.h"
#include "program/totals.h"

namespace triphase {
namespace {

Network benchmark_model(const std::string& spec) {
  return load_network(parse_model_spec(spec), TRIPHASE_SOURCE_DIR "/benchmarks/models");
}

struct Counts {
  int64_t forward = 0;
  int64_t backward = 0;
  int64_t update = 0;
  int64_t parameters = 0;
  int64_t first = 0;  // forward FLOP of the first layers
  Cost forward_cost;

  double ratio() const { return static_cast<double>(backward) / static_cast<double>(forward); }
  double ratio_with(int64_t update_flop) const {
    return static_cast<double>(backward + update_flop) / static_cast<double>(forward);
  }
};

Counts counts(const StepProgram& program) {
  Counts result;
  const Totals sums = totals(program);
  result.parameters = parameter_count(program);
  for (const auto& [phase, cost] : sums.phases) {
    if (phase == Phase::kForward) result.forward = cost.flop, result.forward_cost = cost;
    if (is_backward(phase)) result.backward += cost.flop;
    if (phase == Phase::kUpdate) result.update = cost.flop;
  }
  for (size_t i = 0; i < program.layers.size(); ++i) {
    const auto forward = sums.layers[i].find(Phase::kForward);
    if (program.layers[i].first && forward != sums.layers[i].end()) result.first += forward->second.flop;
  }
  return result;
}

Counts counts(const std::string& spec, int64_t batch, const Optimizer& optimizer = Sgd{}) {
  return counts(lower(benchmark_model(spec), batch, optimizer));
}

double four_digits(double value) { return std::round(value * 1e4) / 1e4; }

struct Expected {
  const char* model;
  int64_t batch, forward, backward, parameters;
  double ratio, with_sgd, with_18;  // to four digits; 18 FLOP a parameter: the post's count of Adam
};

constexpr Expected kExpected[] = {
    {"LinearNet", 1, 1'234'176'512, 1'235'227'648, 617'092'490, 1.0009, 2.0009, 10.0009},
    {"LinearNet", 16, 19'746'824'192, 19'763'642'368, 617'092'490, 1.0009, 1.0634, 1.5634},
    {"LinearNet", 256, 315'949'187'072, 316'218'277'888, 617'092'490, 1.0009, 1.0048, 1.0360},
    {"LinearNet", 1024, 1'263'796'748'288, 1'264'873'111'552, 617'092'490, 1.0009, 1.0018, 1.0096},
    {"OneNet", 1, 1'059'328, 2'110'464, 533'898, 1.9923, 3.0003, 11.0642},
    {"OneNet", 16, 16'949'248, 33'767'424, 533'898, 1.9923, 2.0553, 2.5593},
    {"OneNet", 1024, 1'084'751'872, 2'161'115'136, 533'898, 1.9923, 1.9933, 2.0011},
    {"ConvNet", 1, 275'367'168, 432'720'384, 105'706, 1.5714, 1.5722, 1.5783},
};

TEST(Flop, LinearNet_OneNet_and_ConvNet_count_exactly_what_their_shapes_say) {
  for (const Expected& expected : kExpected) {
    SCOPED_TRACE(std::string(expected.model) + " batch " + std::to_string(expected.batch));
    const Counts found = counts(expected.model, expected.batch);
    EXPECT_EQ(found.forward, expected.forward);
    EXPECT_EQ(found.backward, expected.backward);
    EXPECT_EQ(found.parameters, expected.parameters);
    EXPECT_EQ(found.update, 2 * expected.parameters);
    EXPECT_EQ(four_digits(found.ratio()), expected.ratio);
    EXPECT_EQ(four_digits(found.ratio_with(found.update)), expected.with_sgd);
    EXPECT_EQ(four_digits(found.ratio_with(18 * found.parameters)), expected.with_18);
  }
}

TEST(Flop, LinearNet_backward_over_forward_tends_to_one) {
  double last = counts("LinearNet", 1).ratio_with(2 * 617'092'490);
  EXPECT_EQ(four_digits(last), 2.0009);
  for (int64_t batch = 2; batch <= 1 << 20; batch *= 2) {
    const Counts found = counts("LinearNet", batch);
    const double ratio = found.ratio_with(found.update);
    EXPECT_LT(ratio, last);
    EXPECT_EQ(four_digits(found.ratio()), 1.0009) << "without update the batch does not matter";
    last = ratio;
  }
  EXPECT_EQ(four_digits(last), 1.0009);
}

TEST(Flop, OneNet_with_update_falls_from_three_to_two) {
  EXPECT_EQ(four_digits(counts("OneNet", 1).ratio_with(2 * 533'898)), 3.0003);
  EXPECT_EQ(four_digits(counts("OneNet", 1 << 20).ratio_with(2 * 533'898)), 1.9923);
}

TEST(Flop, the_optimizer_changes_the_update_alone) {
  for (const char* model : {"LinearNet", "OneNet", "ConvNet", "DeeperConvNet"}) {
    const Counts sgd = counts(model, 4);
    for (const auto& [name, flop] :
         {std::pair{"momentum", 4}, {"nesterov", 6}, {"adagrad", 7}, {"rmsprop", 9}, {"adam", 13}, {"adamw", 15}}) {
      const Counts other = counts(model, 4, optimizer_named(name));
      EXPECT_EQ(other.forward, sgd.forward);
      EXPECT_EQ(other.backward, sgd.backward);
      EXPECT_EQ(other.update, flop * sgd.parameters) << name;
    }
  }
}

// Executed operations, not multiply-accumulates: an outer product adds nothing, so "3:1 at batch 1" is a convention.
TEST(Flop, executed_operations_at_batch_1_give_OneNet_2_49_and_LinearNet_1_501) {
  const auto executed = [](const char* model) {
    return ratio(totals(lower(benchmark_model(model), 1, Sgd{})).phases, &Cost::flop_executed).with_update;
  };
  EXPECT_NEAR(executed("OneNet"), 2.490, 5e-4);
  EXPECT_NEAR(executed("LinearNet"), 1.501, 5e-4);
}

TEST(Flop, DeeperConvNet_tends_to_two_with_depth) {
  const std::pair<int, double> expected[] = {{0, 1.5714},  {1, 1.6436},  {2, 1.6950},  {4, 1.7632},  {5, 1.7870},
                                             {10, 1.8583}, {20, 1.9151}, {50, 1.9615}, {100, 1.9798}};
  for (const auto& [depth, ratio] : expected) {
    const std::string spec = "DeeperConvNet:depth=" + std::to_string(depth);
    EXPECT_EQ(four_digits(counts(spec, 1).ratio()), ratio) << spec;
  }
}

TEST(Flop, DeeperConvNet_with_shared_or_independent_weights_has_one_ratio_without_update) {
  for (const int depth : {0, 1, 2, 5, 10, 100}) {
    const std::string spec = "DeeperConvNet:depth=" + std::to_string(depth);
    const Counts independent = counts(spec + ",share_weights=false", 4);
    const Counts shared = counts(spec + ",share_weights=true", 4);
    EXPECT_EQ(shared.forward, independent.forward) << spec;
    EXPECT_EQ(shared.backward, independent.backward) << spec;
    EXPECT_EQ(independent.parameters, 105'706 + depth * 9216);
    EXPECT_EQ(shared.parameters, 105'706 + (depth > 0 ? 9216 : 0)) << "32 x 32 x 3 x 3, once";
  }
}

TEST(Flop, ConvNet_is_DeeperConvNet_of_depth_0_in_FLOP) {
  const Counts convnet = counts("ConvNet", 3);
  const Counts deeper = counts("DeeperConvNet:depth=0", 3);
  EXPECT_EQ(convnet.forward, deeper.forward);
  EXPECT_EQ(convnet.backward, deeper.backward);
  EXPECT_EQ(convnet.parameters, deeper.parameters);
}

TEST(Flop, first_layer_share_of_the_MLP_family_grows_with_its_inputs) {
  const std::pair<int64_t, double> expected[] = {
      {1, 0.007733},    {4, 0.030231},    {16, 0.110871},    {64, 0.332792},    {128, 0.499390},   {256, 0.666125},
      {1024, 0.888648}, {4096, 0.969625}, {16384, 0.992229}, {65536, 0.998046}, {150528, 0.999148}};
  for (const auto& [inputs, share] : expected) {
    const StepProgram program = lower(benchmark_model("MLP:inputs=" + std::to_string(inputs)), 1, Sgd{});
    EXPECT_EQ(std::round(first_layer_share(program, totals(program)) * 1e6) / 1e6, share) << inputs;
  }
}

// backward / forward = 2 - first / forward, multiplied out.
TEST(Flop, backward_is_twice_forward_less_the_first_layers_exactly) {
  for (const char* spec : {"LinearNet", "OneNet", "ConvNet", "DeeperConvNet:depth=0", "DeeperConvNet:depth=7",
                           "DeeperConvNet:depth=7,share_weights=true", "MLP:inputs=1", "MLP:inputs=64",
                           "MLP:inputs=4096", "MLP:inputs=150528", "ResNet18", "ResNet152", "MobileNetV2"}) {
    for (const int64_t batch : {1, 2, 7, 64}) {
      const Counts found = counts(spec, batch);
      EXPECT_GT(found.first, 0);
      EXPECT_EQ(found.backward, 2 * found.forward - found.first) << spec << " batch " << batch;
    }
  }
}

TEST(Flop, MLP_of_1_and_of_150528_inputs_are_OneNet_and_LinearNet) {
  for (const auto& [family, post] : {std::pair{"MLP:inputs=1", "OneNet"}, {"MLP:inputs=150528", "LinearNet"}}) {
    const Counts a = counts(family, 16);
    const Counts b = counts(post, 16);
    EXPECT_EQ(a.forward, b.forward);
    EXPECT_EQ(a.backward, b.backward);
    EXPECT_EQ(a.parameters, b.parameters);
  }
}

void expect_network(const std::string& name, int64_t parameters, int64_t multiply_accumulates, double ratio,
                    double with_sgd) {
  SCOPED_TRACE(name);
  const Counts found = counts(name, 1);
  EXPECT_EQ(found.parameters, parameters);
  EXPECT_EQ(found.forward, 2 * multiply_accumulates);
  EXPECT_EQ(std::round(found.ratio() * 1e5) / 1e5, ratio);
  EXPECT_EQ(std::round(found.ratio_with(found.update) * 1e5) / 1e5, with_sgd);
}

TEST(Flop, ResNets_are_torchvisions) {
  expect_network("ResNet18", 11'689'512, 1'814'073'344, 1.93495, 1.94139);
  expect_network("ResNet34", 21'797'672, 3'663'761'408, 1.96779, 1.97374);
  expect_network("ResNet50", 25'557'032, 4'089'184'256, 1.97114, 1.97739);
  expect_network("ResNet101", 44'549'160, 7'801'405'440, 1.98487, 1.99058);
  expect_network("ResNet152", 60'192'808, 11'513'626'624, 1.98975, 1.99498);
}

// Grouped convolutions, of whose weight gradients PyTorch's counter makes 19.41 : 1.
TEST(Flop, MobileNetV2_is_torchvisions) {
  expect_network("MobileNetV2", 3'504'872, 300'774'272, 1.96397, 1.97562);
  EXPECT_EQ(counts("MobileNetV2", 1).forward_cost.flop_unpadded, 2 * int64_t{299'676'304});
}

// 1,680,390,912 and 3,948,251,904 multiply-accumulates.
TEST(Flop, ResNets_without_padded_taps_are_benchdnns) {
  EXPECT_EQ(counts("ResNet18", 1).forward_cost.flop_unpadded, 3'360'781'824);
  EXPECT_EQ(counts("ResNet50", 1).forward_cost.flop_unpadded, 7'896'503'808);
}

TEST(Flop, ResNet18_of_10_classes_contracts_in_3627132928) {
  EXPECT_EQ(counts("ResNet18:classes=10", 1).forward, 3'627'132'928);
}

constexpr const char* kDeepLinear = R"({"name": "deep_linear", "parameters": {"width": 8, "depth": 3},
  "input": {"shape": ["$width"]}, "loss": {"kind": "mean_square"}, "layers": [
  {"repeat": "$depth", "layers": [
    {"name": "fc", "kind": "linear", "out_features": "$width", "bias": false}, {"name": "relu", "kind": "relu"}]}]})";

StepProgram deep_linear(int64_t width, int64_t depth, int64_t batch, const std::string& optimizer) {
  const Network network = parse_network(nlohmann::json::parse(kDeepLinear), {{"width", width}, {"depth", depth}});
  return lower(network, batch, optimizer_named(optimizer));
}

// L layers of D x D: forward 2BLD², backward twice that but for the first layer's input: 6 B params - 2BD².
TEST(Flop, deep_linear_network_costs_six_times_batch_times_parameters_less_the_first_input_gradient) {
  for (const int64_t width : {1, 8, 100}) {
    for (const int64_t depth : {1, 3, 20}) {
      for (const int64_t batch : {1, 4, 64}) {
        const Counts found = counts(deep_linear(width, depth, batch, "sgd"));
        const int64_t square = batch * width * width;
        EXPECT_EQ(found.parameters, depth * width * width);
        EXPECT_EQ(found.forward, 2 * depth * square);
        EXPECT_EQ(found.backward, 4 * depth * square - 2 * square);
        EXPECT_EQ(found.forward + found.backward, 6 * batch * found.parameters - 2 * square);
      }
    }
  }
}

// Parameters P, gradients P, states P (AdaGrad) or 2P (Adam), activations BDL, 4 bytes each.
TEST(Flop, deep_linear_network_keeps_parameters_gradients_states_and_activations) {
  for (const auto& [optimizer, states] : {std::pair{"sgd", 0}, {"adagrad", 1}, {"adam", 2}}) {
    const int64_t width = 8;
    const int64_t depth = 3;
    const int64_t batch = 4;
    const Memory memory = logical_memory(deep_linear(width, depth, batch, optimizer));
    const int64_t parameters = depth * width * width;
    EXPECT_EQ(memory.parameters, 4 * parameters);
    EXPECT_EQ(memory.gradients, 4 * parameters);
    EXPECT_EQ(memory.optimizer_state, 4 * states * parameters) << optimizer;
    EXPECT_EQ(memory.activations, 4 * batch * width * depth);
    EXPECT_EQ(memory.statistics, 0);
    EXPECT_EQ(memory.input, 4 * batch * width);
    EXPECT_EQ(memory.total, 4 * ((2 + states) * parameters + batch * width * (depth + 1)));
  }
}

// X: [B, D]  W1: [D, D]  W2: [D, K]: forward 2BD² + 2BDK, backward 4BD² + 4BDK less 2BD² for X, which needs none.
TEST(Flop, two_layer_linear_network) {
  const auto json = nlohmann::json::parse(R"({"name": "two_layer", "parameters": {"d": 1, "k": 1},
    "input": {"shape": ["$d"]}, "loss": {"kind": "mean_square"}, "layers": [
    {"name": "fc1", "kind": "linear", "out_features": "$d", "bias": false},
    {"name": "fc2", "kind": "linear", "out_features": "$k", "bias": false}]})");
  for (const auto& [b, d, k] : {std::array<int64_t, 3>{1, 1, 1}, {4, 8, 3}, {64, 100, 10}, {3, 17, 1000}}) {
    const Counts found = counts(lower(parse_network(json, {{"d", d}, {"k", k}}), b, Sgd{}));
    EXPECT_EQ(found.parameters, d * d + d * k);
    EXPECT_EQ(found.forward, 2 * b * d * d + 2 * b * d * k);
    EXPECT_EQ(found.backward, 2 * found.forward - 2 * b * d * d);
  }
}

// 6ND counts all N weights three times; the first layer's only twice, which matters less the deeper the network.
TEST(Flop, six_N_D_is_approached_by_depth_and_missed_by_a_third_by_a_single_layer) {
  const int64_t batch = 10;
  for (const int64_t depth : {1, 2, 10, 100}) {
    const Counts found = counts(deep_linear(16, depth, batch, "sgd"));
    const int64_t six_n_d = 6 * found.parameters * batch;
    EXPECT_EQ((found.forward + found.backward) * 3 * depth, six_n_d * (3 * depth - 1));  // 1 - 1 / (3 depth)
  }
}

TEST(Flop, bytes_of_LinearNet_at_batch_1_are_one_to_four_with_update) {
  const StepProgram program = lower(benchmark_model("LinearNet"), 1, Sgd{});
  const Ratio bytes = ratio(totals(program).phases, &Cost::traffic_bytes);
  EXPECT_NEAR(bytes.plain, 1.0009, 1e-4);        // W read, dW written
  EXPECT_NEAR(bytes.with_update, 4.0000, 1e-4);  // and W and dW read, W written
}

TEST(Flop, memory_of_ConvNet_is_the_sum_of_what_is_kept) {
  const Memory memory = logical_memory(lower(benchmark_model("ConvNet"), 2, Adam{}));
  EXPECT_EQ(memory.parameters, 4 * 105'706);
  EXPECT_EQ(memory.gradients, 4 * 105'706);
  EXPECT_EQ(memory.optimizer_state, 8 * 105'706);
  // Of each image: both ReLU outputs, both pool outputs' taps, what the second convolution and the linear layer read,
  // and the probabilities.
  const int64_t floats = 32 * 112 * 112 + 64 * 28 * 28 + 32 * 55 * 55 + 64 + 10;
  const int64_t taps = 32 * 55 * 55 + 64 * 13 * 13;
  EXPECT_EQ(memory.activations, 2 * (4 * floats + taps));
  EXPECT_EQ(memory.input, 2 * (4 * 3 * 224 * 224 + 4));
}

}  // namespace
}  // namespace triphase
