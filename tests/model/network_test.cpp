// SPDX-License-Identifier: Apache-2.0
// Networks from JSON: specs, repeats, shared weights, parameters, names and order; and what is refused, with its path.
#include "model/network.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "program/totals.h"

namespace triphase {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

// A network around `layers`; further members after them, such as , "parameters": {...}.
json network_json(const std::string& layers, const std::string& more = "") {
  return json::parse(R"({"name": "net", "input": {"shape": [4]}, "loss": {"kind": "mean_square"}, "layers": )" +
                     layers + more + "}");
}

Network network(const std::string& layers, const std::string& more = "", const json& parameters = json::object()) {
  return parse_network(network_json(layers, more), parameters);
}

std::vector<std::string> names(const Network& network) {
  std::vector<std::string> result;
  for (const Network::Layer& layer : network.layers) result.push_back(layer.name);
  return result;
}

const Network::Layer& layer(const Network& network, const std::string& name) {
  for (const Network::Layer& layer : network.layers) {
    if (layer.name == name) return layer;
  }
  throw std::invalid_argument(name);
}

std::string refusal(const std::function<void()>& f) {
  try {
    f();
  } catch (const InputError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(ModelSpec, is_a_name_and_parameters_after_a_colon) {
  EXPECT_EQ(parse_model_spec("LinearNet").name, "LinearNet");
  EXPECT_EQ(parse_model_spec("LinearNet").parameters, json::object());
  const ModelSpec spec = parse_model_spec("DeeperConvNet:depth=10,share_weights=true");
  EXPECT_EQ(spec.name, "DeeperConvNet");
  EXPECT_EQ(spec.parameters, (json{{"depth", 10}, {"share_weights", true}}));
  EXPECT_EQ(parse_model_spec("a:x=-3").parameters["x"], -3);
  EXPECT_EQ(parse_model_spec("path/to/net.json:depth=2").name, "path/to/net.json");
}

TEST(ModelSpec, anything_but_integers_and_booleans_is_refused) {
  for (const char* text : {"a:depth", "a:depth=", "a:depth=x", "a:depth=1.5", "a:=1", "a:depth=\"1\"", "a:depth=null",
                           "a:depth=[1]", "a:depth=1,,x=2", "a:depth=TRUE"}) {
    EXPECT_THAT(refusal([&] { parse_model_spec(text); }), HasSubstr("name=integer or name=true or name=false")) << text;
  }
  EXPECT_THAT(refusal([] { parse_model_spec("a:x=1,y=2,x=3"); }), HasSubstr("each parameter once, found 'x' twice"));
  EXPECT_THAT(refusal([] { parse_model_spec(""); }), HasSubstr("model: expected a name"));
  EXPECT_THAT(refusal([] { parse_model_spec(":depth=1"); }), HasSubstr("expected a name"));
}

TEST(Network, layers_follow_one_another_where_inputs_are_left_out) {
  const Network net = network(R"([{"name": "a", "kind": "linear", "out_features": 3}, {"name": "b", "kind": "relu"}])");
  EXPECT_THAT(names(net), ElementsAre("a", "b"));
  EXPECT_THAT(layer(net, "a").inputs, ElementsAre("input"));
  EXPECT_THAT(layer(net, "b").inputs, ElementsAre("a"));
  EXPECT_EQ(layer(net, "a").owner, "a");
  EXPECT_EQ(layer(net, "b").path, "$.layers[1]");
  EXPECT_EQ(net.spec, "net");
  EXPECT_EQ(net.input_shape, (Shape{4}));
}

TEST(Network, repeated_layers_are_numbered_and_follow_one_another) {
  const Network net = network(R"([{"repeat": 3, "layers": [{"name": "fc", "kind": "linear", "out_features": 4},
    {"name": "relu", "kind": "relu"}]}, {"name": "head", "kind": "linear", "out_features": 2}])");
  EXPECT_THAT(names(net), ElementsAre("fc.0", "relu.0", "fc.1", "relu.1", "fc.2", "relu.2", "head"));
  EXPECT_THAT(layer(net, "fc.1").inputs, ElementsAre("relu.0"));
  EXPECT_THAT(layer(net, "head").inputs, ElementsAre("relu.2"));
  EXPECT_EQ(layer(net, "fc.2").owner, "fc.2");
}

TEST(Network, nested_repeats_are_numbered_from_the_outside) {
  const Network net = network(R"([{"repeat": 2, "layers": [{"repeat": 2, "layers": [
    {"name": "fc", "kind": "linear", "out_features": 4}]}, {"name": "relu", "kind": "relu"}]}])");
  EXPECT_THAT(names(net), ElementsAre("fc.0.0", "fc.0.1", "relu.0", "fc.1.0", "fc.1.1", "relu.1"));
}

TEST(Network, a_repeat_of_zero_leaves_nothing) {
  const Network net = network(R"([{"name": "a", "kind": "linear", "out_features": 4},
    {"repeat": 0, "layers": [{"name": "fc", "kind": "linear", "out_features": 4}]}, {"name": "b", "kind": "relu"}])");
  EXPECT_THAT(names(net), ElementsAre("a", "b"));
  EXPECT_THAT(layer(net, "b").inputs, ElementsAre("a"));
}

TEST(Network, shared_weights_belong_to_the_first_of_a_repeat) {
  const Network net = network(R"([{"repeat": 3, "share_weights": true, "layers": [
    {"name": "fc", "kind": "linear", "out_features": 4}]}])");
  for (const char* name : {"fc.0", "fc.1", "fc.2"}) EXPECT_EQ(layer(net, name).owner, "fc.0");
}

TEST(Network, sharing_in_an_outer_repeat_shares_across_it_alone) {
  const Network net = network(R"([{"repeat": 2, "share_weights": true, "layers": [{"repeat": 2, "layers": [
    {"name": "fc", "kind": "linear", "out_features": 4}]}]}])");
  EXPECT_EQ(layer(net, "fc.0.1").owner, "fc.0.1");
  EXPECT_EQ(layer(net, "fc.1.0").owner, "fc.0.0");
  EXPECT_EQ(layer(net, "fc.1.1").owner, "fc.0.1");
}

TEST(Network, names_mean_the_innermost_list_that_has_them_and_full_names_any_layer) {
  const Network net = network(R"([{"name": "stem", "kind": "linear", "out_features": 4},
    {"repeat": 2, "layers": [{"name": "skip", "kind": "relu"}, {"name": "fc", "kind": "linear", "out_features": 4},
      {"name": "sum", "kind": "add", "inputs": ["fc", "skip"]},
      {"name": "more", "kind": "add", "inputs": ["sum", "stem"]}]},
    {"name": "last", "kind": "add", "inputs": ["more.1", "sum.0"]}])");
  EXPECT_THAT(layer(net, "sum.1").inputs, ElementsAre("fc.1", "skip.1"));
  EXPECT_THAT(layer(net, "more.0").inputs, ElementsAre("sum.0", "stem"));
  EXPECT_THAT(layer(net, "last").inputs, ElementsAre("more.1", "sum.0"));
}

TEST(Network, parameters_stand_in_for_integers_booleans_and_list_items) {
  const std::string layers = R"([{"repeat": "$depth", "share_weights": "$share", "layers": [
    {"name": "conv", "kind": "conv2d", "out_channels": 2, "kernel": ["$size", 3], "padding": ["$half", 1], "bias": "$bias"}]}])";
  const json root = json::parse(R"({"name": "net", "input": {"shape": [2, "$height", 8]},
    "parameters": {"depth": 1, "share": false, "size": 3, "half": 1, "bias": true, "height": 8},
    "loss": {"kind": "mean_square"}, "layers": )" +
                                layers + "}");
  const Network standard = parse_network(root, json::object());
  EXPECT_EQ(standard.spec, "net");
  EXPECT_EQ(parameter_count(lower(standard, 1, Sgd{})), 2 * 2 * 9 + 2);
  const Network other = parse_network(root, {{"depth", 3}, {"size", 5}, {"half", 2}, {"bias", false}, {"height", 20}});
  EXPECT_EQ(other.spec, "net:bias=false,depth=3,half=2,height=20,size=5");
  EXPECT_EQ(other.parameters["share"], false);
  EXPECT_EQ(other.input_shape, (Shape{2, 20, 8}));
  EXPECT_EQ(parameter_count(lower(other, 1, Sgd{})), 3 * 2 * 2 * 15);
  const Network shared = parse_network(root, {{"depth", 3}, {"share", true}});
  EXPECT_EQ(parameter_count(lower(shared, 1, Sgd{})), 2 * 2 * 9 + 2);
}

TEST(Network, a_parameter_set_to_its_default_is_not_in_the_spec) {
  const std::string more = R"(, "parameters": {"depth": 2})";
  const std::string layers =
      R"([{"repeat": "$depth", "layers": [{"name": "a", "kind": "linear", "out_features": 2}]}])";
  EXPECT_EQ(network(layers, more, {{"depth", 2}}).spec, "net");
  EXPECT_EQ(network(layers, more, {{"depth", 3}}).spec, "net:depth=3");
}

TEST(Network, layers_may_be_listed_before_what_they_read) {
  const Network net = network(R"([{"name": "sum", "kind": "add", "inputs": ["b", "a"]},
    {"name": "b", "kind": "relu", "inputs": ["a"]},
    {"name": "a", "kind": "linear", "out_features": 3, "inputs": ["input"]}])");
  EXPECT_THAT(names(net), ElementsAre("a", "b", "sum"));
  EXPECT_NO_THROW(lower(net, 2, Sgd{}));
}

TEST(Network, a_list_that_is_in_order_keeps_its_order) {
  const Network net = network(R"([{"name": "z", "kind": "linear", "out_features": 3},
    {"name": "m", "kind": "linear", "out_features": 3, "inputs": ["input"]},
    {"name": "a", "kind": "add", "inputs": ["z", "m"]}])");
  EXPECT_THAT(names(net), ElementsAre("z", "m", "a"));
}

TEST(Network, order_of_the_list_does_not_change_the_cost) {
  const char* forwards = R"([{"name": "a", "kind": "linear", "out_features": 3},
    {"name": "b", "kind": "relu", "inputs": ["a"]}, {"name": "sum", "kind": "add", "inputs": ["b", "a"]}])";
  const char* backwards = R"([{"name": "sum", "kind": "add", "inputs": ["b", "a"]},
    {"name": "b", "kind": "relu", "inputs": ["a"]}, {"name": "a", "kind": "linear", "out_features": 3, "inputs": ["input"]}])";
  EXPECT_EQ(totals(lower(network(forwards), 5, Sgd{})).phases, totals(lower(network(backwards), 5, Sgd{})).phases);
}

TEST(Network, kernel_and_kernel_size_are_one_and_pools_step_by_their_kernel) {
  const auto shape = [](const std::string& attributes) {
    const json root = json::parse(R"({"name": "net", "input": {"shape": [2, 12, 12]}, "loss": {"kind": "mean_square"},
      "layers": [{"name": "conv", "kind": "conv2d", "out_channels": 1, "kernel": 1}, {"name": "last", )" +
                                  attributes + "}]}");
    const StepProgram program = lower(parse_network(root, json::object()), 1, Sgd{});
    for (const Tensor& tensor : program.tensors) {
      if (tensor.name == "last") return tensor.type.shape;
    }
    return Shape{};
  };
  EXPECT_EQ(shape(R"("kind": "conv2d", "out_channels": 3, "kernel": 3)"), (Shape{1, 3, 10, 10}));
  EXPECT_EQ(shape(R"("kind": "conv2d", "out_channels": 3, "kernel_size": [3, 5], "bias": false)"),
            (Shape{1, 3, 10, 8}));
  EXPECT_EQ(shape(R"("kind": "max_pool2d", "kernel": 3)"), (Shape{1, 1, 4, 4}));
  EXPECT_EQ(shape(R"("kind": "max_pool2d", "kernel": 3, "stride": 1, "padding": 1)"), (Shape{1, 1, 12, 12}));
  EXPECT_EQ(shape(R"("kind": "avg_pool2d", "kernel_size": [2, 6])"), (Shape{1, 1, 6, 2}));
  EXPECT_EQ(shape(R"("kind": "global_avg_pool2d")"), (Shape{1, 1, 1, 1}));
}

struct Refusal {
  const char* layers;
  const char* message;
};

// Refused while parsing.
constexpr Refusal kBadLayers[] = {
    {R"({})", "$.layers: expected a list of layers, found an object"},
    {R"([])", "$.layers: expected at least one layer, found none"},
    {R"([3])", "$.layers[0]: expected an object, found 3"},
    {R"([{"kind": "relu"}])", "$.layers[0].name: expected a string, found nothing"},
    {R"([{"name": 5, "kind": "relu"}])", "$.layers[0].name: expected a non-empty string, found 5"},
    {R"([{"name": "", "kind": "relu"}])", "$.layers[0].name: expected a non-empty string"},
    {R"([{"name": "a b", "kind": "relu"}])", "letters, digits, _ and -"},
    {R"([{"name": "a/b", "kind": "relu"}])", "found \"a/b\""},
    {R"([{"name": "input", "kind": "relu"}])", "neither input nor loss, found \"input\""},
    {R"([{"name": "loss", "kind": "relu"}])", "neither input nor loss, found \"loss\""},
    {R"([{"name": "a"}])", "$.layers[0].kind: expected a string, found nothing"},
    {R"([{"name": "a", "kind": "lstm"}])",
     "$.layers[0].kind: expected one of linear, conv2d, relu, max_pool2d, avg_pool2d, global_avg_pool2d, batch_norm2d, "
     "add, flatten, found 'lstm'"},
    {R"([{"name": "a", "kind": "Linear"}])", "found 'Linear'"},
    {R"([{"name": "a", "kind": "linear"}])", "$.layers[0].out_features: expected an integer, found nothing"},
    {R"([{"name": "a", "kind": "linear", "out_features": 0}])",
     "$.layers[0].out_features: expected an integer from 1 to 1099511627776, found 0"},
    {R"([{"name": "a", "kind": "linear", "out_features": -4}])", "found -4"},
    {R"([{"name": "a", "kind": "linear", "out_features": 3.0}])", "found 3.0"},
    {R"([{"name": "a", "kind": "linear", "out_features": "3"}])", "found \"3\""},
    {R"([{"name": "a", "kind": "linear", "out_features": true}])", "found true"},
    {R"([{"name": "a", "kind": "linear", "out_features": null}])", "found null"},
    {R"([{"name": "a", "kind": "linear", "out_features": 18446744073709551615}])", "found 18446744073709551615"},
    {R"([{"name": "a", "kind": "linear", "out_features": 1e30}])", "expected an integer from 1"},
    {R"([{"name": "a", "kind": "linear", "out_features": 3, "bias": 1}])",
     "$.layers[0].bias: expected true or false, found 1"},
    {R"([{"name": "a", "kind": "linear", "out_features": 3, "outfeatures": 3}])",
     "$.layers[0].outfeatures: expected only the keys bias, in_features, inputs, kind, name, out_features, found an "
     "unknown key"},
    {R"([{"name": "a", "kind": "relu", "inplace": true}])", "$.layers[0].inplace: expected only the keys"},
    {R"([{"name": "a", "kind": "relu"}, {"name": "a", "kind": "relu"}])",
     "$.layers[1].name: expected a new name, found 'a' again"},
    {R"([{"name": "a", "kind": "relu", "inputs": "input"}])", "$.layers[0].inputs: expected a list of 1 names"},
    {R"([{"name": "a", "kind": "relu", "inputs": []}])", "expected a list of 1 names, found a list of 0"},
    {R"([{"name": "a", "kind": "relu", "inputs": [1]}])", "expected names of layers, found 1"},
    {R"([{"name": "a", "kind": "relu", "inputs": ["b"]}])",
     "$.layers[0].inputs: expected names of layers, or input, found \"b\""},
    {R"([{"name": "a", "kind": "add"}])", "$.layers[0].inputs: expected 2 names, found nothing"},
    {R"([{"name": "a", "kind": "add", "inputs": ["input"]}])", "expected a list of 2 names, found a list of 1"},
    {R"([{"name": "a", "kind": "relu", "inputs": ["a"]}])",
     "$.layers[0].inputs: expected no cycle, found one through 'a'"},
    {R"([{"name": "x", "kind": "relu"}, {"name": "a", "kind": "add", "inputs": ["b", "x"]},
         {"name": "b", "kind": "relu", "inputs": ["a"]}])",
     "$.layers[1].inputs: expected no cycle, found one through 'a'"},
    {R"([{"name": "a", "kind": "relu"}, {"name": "b", "kind": "relu", "inputs": ["input"]}])",
     "$.layers[0]: expected a layer that another reads, found 'a', which none does"},
    {R"([{"repeat": -1, "layers": []}])", "$.layers[0].repeat: expected an integer from 0 to 100000, found -1"},
    {R"([{"repeat": "3", "layers": []}])", "$.layers[0].repeat: expected an integer"},
    {R"([{"repeat": 100001, "layers": []}])", "found 100001"},
    {R"([{"repeat": 2}])", "$.layers[0].layers: expected a list of layers, found nothing"},
    {R"([{"repeat": 2, "layers": {}}])", "$.layers[0].layers: expected a list of layers, found an object"},
    {R"([{"repeat": 2, "name": "block", "layers": []}])", "$.layers[0].name: expected only the keys"},
    {R"([{"repeat": 2, "share_weights": 1, "layers": []}])", "$.layers[0].share_weights: expected true or false"},
    {R"([{"repeat": 2, "layers": [{"name": "a", "kind": "nope"}]}])", "$.layers[0].layers[0].kind: expected one of"},
    {R"([{"repeat": 100000, "layers": [{"name": "a", "kind": "relu"}, {"name": "b", "kind": "relu"}]}])",
     "expected at most 100000 layers"},
    {R"([{"name": "a", "kind": "linear", "out_features": "$width"}])",
     "$.layers[0].out_features: expected a parameter of this model, found '$width'"},
    {R"([{"name": "a", "kind": "conv2d", "out_channels": 3, "kernel": [1, "$k"]}])",
     "$.layers[0].kernel[1]: expected a parameter"},
    {R"([{"name": "a", "kind": "conv2d", "out_channels": 3}])",
     "$.layers[0].kernel_size: expected an integer or a pair"},
    {R"([{"name": "a", "kind": "conv2d", "out_channels": 3, "kernel": 3, "kernel_size": 3}])",
     "$.layers[0]: expected one of kernel and kernel_size, found both"},
    {R"([{"name": "a", "kind": "conv2d", "out_channels": 3, "kernel": [3]}])",
     "$.layers[0].kernel: expected an integer or a pair"},
    {R"([{"name": "a", "kind": "conv2d", "out_channels": 3, "kernel": [3, 0]}])",
     "$.layers[0].kernel[1]: expected an integer from 1"},
    {R"([{"name": "a", "kind": "conv2d", "out_channels": 3, "kernel": 3, "stride": 0}])",
     "$.layers[0].stride: expected an integer from 1"},
    {R"([{"name": "a", "kind": "conv2d", "out_channels": 3, "kernel": 3, "padding": -1}])",
     "$.layers[0].padding: expected an integer from 0"},
    {R"([{"name": "a", "kind": "conv2d", "out_channels": 3, "kernel": 99999}])",
     "expected an integer from 1 to 65536, found 99999"},
    {R"([{"name": "a", "kind": "max_pool2d", "kernel": 3, "padding": 2}])",
     "$.layers[0].padding: expected at most half of the kernel, found 2"},
    {R"([{"name": "a", "kind": "max_pool2d", "kernel": 3, "dilation": 2}])",
     "$.layers[0].dilation: expected only the keys"},
    {R"([{"name": "a", "kind": "batch_norm2d", "eps": 0}])",
     "$.layers[0].eps: expected a number above 0 and up to 1, found 0"},
    {R"([{"name": "a", "kind": "batch_norm2d", "momentum": "x"}])", "$.layers[0].momentum: expected a number"},
    {R"([{"name": "a", "kind": "batch_norm2d", "momentum": 1.5}])", "above 0 and up to 1, found 1.5"},
};

TEST(Refusals, bad_layers_are_refused_with_their_path_what_was_expected_and_what_was_found) {
  for (const Refusal& bad : kBadLayers) {
    EXPECT_THAT(refusal([&] { network(bad.layers); }), HasSubstr(bad.message)) << bad.layers;
  }
}

// Refused while lowering, where shapes are known.
constexpr Refusal kBadShapes[] = {
    {R"([{"name": "r", "kind": "relu"}])", "net $.loss: expected a layer with parameters, found none"},
    {R"([{"name": "c", "kind": "conv2d", "out_channels": 3, "kernel": 3}])",
     "net $.layers[0]: expected an input [N, C, H, W], found shape [2, 4]"},
    {R"([{"name": "a", "kind": "linear", "in_features": 5, "out_features": 3}])",
     "net $.layers[0]: expected an input of 5 features, found shape [2, 4]"},
    {R"([{"name": "a", "kind": "linear", "out_features": 3}, {"name": "b", "kind": "add", "inputs": ["a", "input"]}])",
     "net $.layers[1]: expected equal shapes, found [2, 3] and [2, 4]"},
    {R"([{"name": "a", "kind": "linear", "out_features": 3}, {"name": "p", "kind": "max_pool2d", "kernel": 2}])",
     "net $.layers[1]: expected an input [N, C, H, W], found shape [2, 3]"},
    {R"([{"repeat": 2, "share_weights": true, "layers": [{"name": "a", "kind": "linear", "out_features": 3}]}])",
     "net $.layers[0].layers[0]: expected shared weights of one shape, found [3, 4] and [3, 3]"},
    {R"([{"name": "a", "kind": "linear", "out_features": 1099511627776},
         {"name": "b", "kind": "linear", "out_features": 1099511627776}])",
     "net $.layers[1]: expected sizes below 2^63, found a size beyond 2^63 - 1"},
};

TEST(Refusals, layers_that_do_not_fit_their_input_are_refused_with_their_path) {
  for (const Refusal& bad : kBadShapes) {
    EXPECT_THAT(refusal([&] { lower(network(bad.layers), 2, Sgd{}); }), HasSubstr(bad.message)) << bad.layers;
  }
}

constexpr Refusal kBadPlanes[] = {
    {R"([{"name": "a", "kind": "linear", "out_features": 3}])",
     "(a flatten layer makes one), found shape [1, 3, 8, 8]"},
    {R"([{"name": "c", "kind": "conv2d", "out_channels": 3, "kernel": 9}])",
     "expected an input no smaller than the window, found shape [1, 3, 8, 8]"},
    {R"([{"name": "c", "kind": "conv2d", "out_channels": 3, "kernel": 3, "groups": 2}])",
     "expected channels divided by 2 groups"},
    {R"([{"name": "c", "kind": "conv2d", "out_channels": 4, "kernel": 3, "groups": 3}])", "out_channels 4"},
    {R"([{"name": "c", "kind": "conv2d", "in_channels": 4, "out_channels": 4, "kernel": 3}])",
     "and 4 of them in, found input [1, 3, 8, 8]"},
    {R"([{"name": "c", "kind": "conv2d", "out_channels": 3, "kernel": 8}, {"name": "n", "kind": "batch_norm2d"}])",
     "expected more than one value a channel, found [1, 3, 1, 1]"},
};

TEST(Refusals, planes_that_do_not_fit_are_refused_with_their_shape) {
  for (const Refusal& bad : kBadPlanes) {
    json root = network_json(bad.layers);
    root["input"]["shape"] = {3, 8, 8};
    EXPECT_THAT(refusal([&] { lower(parse_network(root, json::object()), 1, Sgd{}); }), HasSubstr(bad.message))
        << bad.layers;
  }
}

struct BadRoot {
  const char* pointer;  // what is replaced
  const char* value;    // by what; nothing: removed
  const char* message;
};

TEST(Refusals, bad_members_of_the_model_are_refused_with_their_path) {
  const BadRoot table[] = {
      {"/name", "", "$.name: expected a string, found nothing"},
      {"/name", "7", "$.name: expected a non-empty string, found 7"},
      {"/name", "\"a/b\"", "letters, digits, _ . + and -"},
      {"/input", "", "$.input: expected an object, found nothing"},
      {"/input", "[1]", "$.input: expected an object, found a list of 1"},
      {"/input/shape", "", "$.input.shape: expected a list of extents, found nothing"},
      {"/input/shape", "[]", "$.input.shape: expected a list of 1 to 6 extents, found a list of 0"},
      {"/input/shape", "[1,1,1,1,1,1,1]", "found a list of 7"},
      {"/input/shape", "5", "$.input.shape: expected a list of 1 to 6 extents, found 5"},
      {"/input/shape", "[3, 0]", "$.input.shape[1]: expected an integer from 1 to 1099511627776, found 0"},
      {"/input/shape", "[3.5]", "$.input.shape[0]: expected an integer"},
      {"/input/shape", "[\"$x\"]", "$.input.shape[0]: expected a parameter of this model, found '$x'"},
      {"/input/dtype", "\"f16\"", "$.input.dtype: expected f32, found 'f16'"},
      {"/input/size", "3", "$.input.size: expected only the keys dtype, shape"},
      {"/loss", "", "$.loss: expected an object, found nothing"},
      {"/loss/kind", "\"hinge\"", "$.loss.kind: expected one of softmax_cross_entropy, mean_square, found 'hinge'"},
      {"/loss/reduction", "\"sum\"", "$.loss.reduction: expected only the keys kind"},
      {"/layers", "", "$.layers: expected a list of layers, found nothing"},
      {"/parameters", "[]", "$.parameters: expected an object, found a list of 0"},
      {"/parameters", "{\"unused\": 1}",
       "$.parameters.unused: expected a parameter that stands somewhere, as \"$unused\", found none that does"},
      {"/parameters", "{\"p\": 1.5}", "$.parameters.p: expected an integer or a boolean, found 1.5"},
      {"/parameters", "{\"p\": \"x\"}", "$.parameters.p: expected an integer or a boolean, found \"x\""},
      {"/version", "2",
       "$.version: expected only the keys input, layers, loss, name, parameters, found an unknown key"},
  };
  for (const BadRoot& bad : table) {
    json root = network_json(R"([{"name": "a", "kind": "linear", "out_features": 3}])");
    const json::json_pointer pointer(bad.pointer);
    if (*bad.value) {
      root[pointer] = json::parse(bad.value);
    } else {
      root[pointer.parent_pointer()].erase(pointer.back());
    }
    EXPECT_THAT(refusal([&] { parse_network(root, json::object()); }), HasSubstr(bad.message))
        << bad.pointer << " " << bad.value;
  }
  EXPECT_THAT(refusal([] { parse_network(json::array(), json::object()); }),
              HasSubstr("$: expected an object, found a list of 0"));
}

TEST(Refusals, unknown_parameters_and_wrong_types_name_those_there_are) {
  const std::string layers =
      R"([{"repeat": "$depth", "layers": [{"name": "a", "kind": "linear", "out_features": 2}]}])";
  const std::string more = R"(, "parameters": {"depth": 2, "wide": false})";
  EXPECT_THAT(refusal([&] {
                network(layers, more, {{"dept", 2}});
              }),
              HasSubstr("parameter dept: expected one of depth, wide (those of net), found an unknown one"));
  EXPECT_THAT(refusal([&] {
                network(layers, more, {{"depth", true}});
              }),
              HasSubstr("parameter depth: expected an integer, found true"));
  EXPECT_THAT(refusal([&] {
                network(layers, more, {{"wide", 1}});
              }),
              HasSubstr("parameter wide: expected true or false, found 1"));
  EXPECT_THAT(refusal([&] { network(layers, more, {{"depth", -1}}); }), HasSubstr("$.layers[0].repeat"));
  EXPECT_THAT(refusal([] {
                network(R"([{"name": "a", "kind": "relu"}])", "", {{"x", 1}});
              }),
              HasSubstr("expected one of none (those of net)"));
}

TEST(Refusals, batches_out_of_range_are_refused) {
  const Network net = network(R"([{"name": "a", "kind": "linear", "out_features": 3}])");
  for (const int64_t batch : {int64_t{0}, int64_t{-1}, (int64_t{1} << 40) + 1}) {
    EXPECT_THAT(refusal([&] { lower(net, batch, Sgd{}); }),
                HasSubstr("batch: expected an integer from 1 to 1099511627776"));
  }
}

TEST(Refusals, cross_entropy_wants_rows_of_classes) {
  json root = network_json(R"([{"name": "c", "kind": "conv2d", "out_channels": 3, "kernel": 3}])");
  root["input"]["shape"] = {3, 8, 8};
  root["loss"]["kind"] = "softmax_cross_entropy";
  EXPECT_THAT(refusal([&] { lower(parse_network(root, json::object()), 1, Sgd{}); }),
              HasSubstr("net $.loss: expected an input [N, K], found shape [1, 3, 6, 6]"));
}

}  // namespace
}  // namespace triphase
