// SPDX-License-Identifier: Apache-2.0
// Suites: which cases to measure. A case is one network at one batch with one optimizer and dtype.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/network.h"

namespace triphase {

struct CaseSpec {
  ModelSpec model;
  int64_t batch = 1;
  std::string optimizer = "sgd";
  std::string dtype = "f32";
  std::string where;  // in its suite, as "$[2]"
};

// What is crossed into cases.
struct Crossing {
  std::vector<ModelSpec> models;
  std::vector<int64_t> batches;
  std::vector<std::string> optimizers;
  std::vector<std::string> dtypes;
};

// Appends a case for every combination. Throws InputError where that would make more than 100,000 cases.
void add_cases(const Crossing& crossing, const std::string& where, std::vector<CaseSpec>& cases);

// "1,2,4" or "1:1024:*2" (from, to, times) or "0:100:+10" (plus). Throws InputError.
std::vector<int64_t> parse_range(const std::string& text, const std::string& what);

// A list of {"model", "batch", "parameters", "optimizer", "dtype"}, each crossed; absent ones have one default value.
std::vector<CaseSpec> parse_suite(const nlohmann::json& json);

}  // namespace triphase
