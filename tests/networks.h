// SPDX-License-Identifier: Apache-2.0
// Small networks that between them hold every layer kind, loss, and shape of graph.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "model/network.h"

namespace triphase {

struct NamedNetwork {
  std::string name;
  std::string json;
};

inline void PrintTo(const NamedNetwork& network, std::ostream* out) { *out << network.name; }

inline const std::vector<NamedNetwork>& small_networks() {
  static const std::vector<NamedNetwork> networks = {
      {"mlp", R"({"name": "mlp", "input": {"shape": [7]}, "loss": {"kind": "softmax_cross_entropy"}, "layers": [
        {"name": "fc1", "kind": "linear", "out_features": 33}, {"name": "relu1", "kind": "relu"},
        {"name": "fc2", "kind": "linear", "out_features": 16, "bias": false}, {"name": "relu2", "kind": "relu"},
        {"name": "fc3", "kind": "linear", "out_features": 5}]})"},
      {"one_input", R"({"name": "one_input", "input": {"shape": [1]}, "loss": {"kind": "mean_square"}, "layers": [
        {"name": "fc1", "kind": "linear", "out_features": 20}, {"name": "relu1", "kind": "relu"},
        {"name": "fc2", "kind": "linear", "out_features": 3}]})"},
      {"wide", R"({"name": "wide", "input": {"shape": [3]}, "loss": {"kind": "softmax_cross_entropy"}, "layers": [
        {"name": "fc1", "kind": "linear", "out_features": 150}, {"name": "relu1", "kind": "relu"},
        {"name": "fc2", "kind": "linear", "out_features": 1030}, {"name": "relu2", "kind": "relu"},
        {"name": "fc3", "kind": "linear", "out_features": 67, "bias": false},
        {"name": "fc4", "kind": "linear", "out_features": 10}]})"},
      {"convnet",
       R"({"name": "convnet", "input": {"shape": [3, 21, 18]}, "loss": {"kind": "softmax_cross_entropy"}, "layers": [
        {"name": "conv1", "kind": "conv2d", "out_channels": 5, "kernel": 5, "stride": 2, "padding": 2, "bias": false},
        {"name": "relu1", "kind": "relu"}, {"name": "pool1", "kind": "max_pool2d", "kernel": 3, "stride": 2},
        {"name": "conv2", "kind": "conv2d", "out_channels": 18, "kernel_size": [3, 2], "padding": [1, 0]},
        {"name": "relu2", "kind": "relu"}, {"name": "average", "kind": "global_avg_pool2d"},
        {"name": "flatten", "kind": "flatten"}, {"name": "fc", "kind": "linear", "out_features": 4}]})"},
      {"pool_of_relu",
       R"({"name": "pool_of_relu", "input": {"shape": [3, 17, 15]}, "loss": {"kind": "mean_square"}, "layers": [
        {"name": "conv1", "kind": "conv2d", "out_channels": 32, "kernel": 3, "padding": 1},
        {"name": "relu1", "kind": "relu"},
        {"name": "pool1", "kind": "max_pool2d", "kernel": 3, "stride": 2, "padding": 1},
        {"name": "conv2", "kind": "conv2d", "out_channels": 19, "kernel": 3, "padding": 1},
        {"name": "relu2", "kind": "relu"},
        {"name": "pool2", "kind": "max_pool2d", "kernel_size": [2, 3], "stride": [2, 1]},
        {"name": "sum", "kind": "add", "inputs": ["pool2", "pool2"]},
        {"name": "relu3", "kind": "relu"}, {"name": "pool3", "kind": "max_pool2d", "kernel": 2, "stride": 3}]})"},
      {"conv_to_linear",
       R"({"name": "conv_to_linear", "input": {"shape": [2, 9, 9]}, "loss": {"kind": "softmax_cross_entropy"}, "layers": [
        {"name": "conv1", "kind": "conv2d", "out_channels": 17, "kernel": 3, "padding": 1},
        {"name": "pool1", "kind": "avg_pool2d", "kernel": 3, "stride": 2, "padding": 1, "count_include_pad": false},
        {"name": "relu1", "kind": "relu"},
        {"name": "conv2", "kind": "conv2d", "out_channels": 6, "kernel": 3, "dilation": 2},
        {"name": "pool2", "kind": "max_pool2d", "kernel": 1, "stride": 1, "padding": 0},
        {"name": "flatten", "kind": "flatten"}, {"name": "fc", "kind": "linear", "out_features": 3}]})"},
      {"residual",
       R"({"name": "residual", "input": {"shape": [4, 8, 8]}, "loss": {"kind": "softmax_cross_entropy"}, "layers": [
        {"name": "conv0", "kind": "conv2d", "out_channels": 16, "kernel": 3, "padding": 1, "bias": false},
        {"name": "norm0", "kind": "batch_norm2d"}, {"name": "relu0", "kind": "relu"},
        {"name": "conv1", "kind": "conv2d", "out_channels": 16, "kernel": 3, "padding": 1, "bias": false, "groups": 4},
        {"name": "norm1", "kind": "batch_norm2d"}, {"name": "relu1", "kind": "relu"},
        {"name": "conv2", "kind": "conv2d", "out_channels": 16, "kernel": 3, "padding": 1, "bias": false},
        {"name": "norm2", "kind": "batch_norm2d"},
        {"name": "add", "kind": "add", "inputs": ["norm2", "relu0"]}, {"name": "relu2", "kind": "relu"},
        {"name": "pool", "kind": "avg_pool2d", "kernel": 2, "padding": 1},
        {"name": "flatten", "kind": "flatten"}, {"name": "fc", "kind": "linear", "out_features": 3}]})"},
      {"norm_first",
       R"({"name": "norm_first", "input": {"shape": [3, 5, 6]}, "loss": {"kind": "mean_square"}, "layers": [
        {"name": "norm", "kind": "batch_norm2d"}, {"name": "pool", "kind": "max_pool2d", "kernel": 2, "padding": 1},
        {"name": "flatten", "kind": "flatten"}, {"name": "fc", "kind": "linear", "out_features": 2}]})"},
      {"shared", R"({"name": "shared", "parameters": {"depth": 3, "share": true}, "input": {"shape": [6]},
        "loss": {"kind": "softmax_cross_entropy"}, "layers": [
        {"name": "stem", "kind": "linear", "out_features": 8},
        {"repeat": "$depth", "share_weights": "$share", "layers": [
          {"name": "fc", "kind": "linear", "out_features": 8}, {"name": "relu", "kind": "relu"}]},
        {"name": "sum", "kind": "add", "inputs": ["stem", "relu.2"]},
        {"name": "head", "kind": "linear", "out_features": 4}]})"},
      {"fan_out", R"({"name": "fan_out", "input": {"shape": [5]}, "loss": {"kind": "mean_square"}, "layers": [
        {"name": "a", "kind": "linear", "out_features": 6},
        {"name": "b", "kind": "linear", "out_features": 6, "inputs": ["a"]},
        {"name": "c", "kind": "relu", "inputs": ["a"]},
        {"name": "d", "kind": "add", "inputs": ["b", "c"]},
        {"name": "e", "kind": "add", "inputs": ["d", "a"]}]})"},
      {"relu_first",
       R"({"name": "relu_first", "input": {"shape": [2, 4, 4]}, "loss": {"kind": "mean_square"}, "layers": [
        {"name": "relu", "kind": "relu"}, {"name": "conv", "kind": "conv2d", "out_channels": 3, "kernel": 2},
        {"name": "relu2", "kind": "relu"}, {"name": "relu3", "kind": "relu"}]})"},
      {"one_output", R"({"name": "one_output", "input": {"shape": [9]}, "loss": {"kind": "mean_square"}, "layers": [
        {"name": "fc1", "kind": "linear", "out_features": 6}, {"name": "relu1", "kind": "relu"},
        {"name": "fc2", "kind": "linear", "out_features": 1}]})"},
  };
  return networks;
}

inline Network network_from(const std::string& json, const nlohmann::json& parameters = nlohmann::json::object()) {
  return parse_network(nlohmann::json::parse(json), parameters);
}

}  // namespace triphase
