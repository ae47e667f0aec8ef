// SPDX-License-Identifier: Apache-2.0
#include "bin/selection.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <tuple>

#include "bin/signals.h"
#include "core/error.h"
#include "core/join.h"
#include "model/files.h"
#include "program/precision.h"

namespace triphase {
namespace {

Precision precision_of(const std::string& dtype) {
  const std::optional<Precision> found = precision_named(dtype);
  if (!found) throw InputError("dtype", "one of " + join(precision_names()), "'" + dtype + "'");
  return *found;
}

// Does `body`, and says of wrong input where it stands, if its error does not.
void in_file(const std::string& where, const std::function<void()>& body) {
  try {
    body();
  } catch (const InputError& error) {
    const std::string text = error.what();
    throw where.empty() || text.starts_with(where) ? error : InputError(where, text);
  }
}

// Tells a network, and what it is given, from others.
std::string key_of(const ModelSpec& model) { return model.name + ":" + model.parameters.dump(); }

// What the flags ask for: where they name batches, optimizers or dtypes, in place of a suite's own.
std::vector<CaseSpec> specs_of(const Selection& selection) {
  std::vector<int64_t> batches;
  if (selection.batch) batches = parse_range(*selection.batch, "--batch");
  for (const int64_t batch : batches) require_batch(batch, "--batch");
  for (const std::string& optimizer : selection.optimizers) optimizer_named(optimizer);  // refused before any suite's
  for (const std::string& dtype : selection.dtypes) precision_of(dtype);
  std::vector<CaseSpec> own;
  if (!selection.suite.empty()) {
    const std::string path = find_json(selection.suite, benchmarks_folder() + "/suites", "suite");
    in_file(path, [&] { own = parse_suite(read_json(path)); });
    for (CaseSpec& spec : own) {
      spec.where = path + ": " + spec.where;
      const std::filesystem::path beside = std::filesystem::path(path).parent_path() / spec.model.name;
      std::error_code ignored;
      if (spec.model.name.ends_with(".json") && std::filesystem::exists(beside, ignored)) {
        spec.model.name = beside.string();  // else from where the program runs
      }
    }
  }
  for (const std::string& model : selection.models) {
    own.emplace_back();
    own.back().model = parse_model_spec(model);
  }
  const auto given_or = []<class T>(const std::vector<T>& given, const T& value) {
    return given.empty() ? std::vector<T>{value} : given;
  };
  std::vector<CaseSpec> specs;
  std::set<std::string> seen;
  for (const CaseSpec& spec : own) {
    const Crossing crossing{{spec.model},
                            given_or(batches, spec.batch),
                            given_or(selection.optimizers, spec.optimizer),
                            given_or(selection.dtypes, spec.dtype)};
    const std::string first = key_of(spec.model) + "/" + std::to_string(crossing.batches.front()) + "/" +
                              crossing.optimizers.front() + "/" + crossing.dtypes.front();
    if (seen.insert(first).second) add_cases(crossing, spec.where, specs);  // else alike but for what the flags replace
  }
  return specs;
}

// The case's network, lowered, in its precision.
StepProgram program_of(const CaseSpec& spec, const Network& network, std::optional<double> loss_scale) {
  const Precision precision = precision_of(spec.dtype);
  return with_precision(lower(network, spec.batch, optimizer_named(spec.optimizer)), precision, loss_scale);
}

}  // namespace

bool Selection::is_list() const {
  return !suite.empty() || models.size() > 1 || optimizers.size() > 1 || dtypes.size() > 1 ||
         (batch && batch->find_first_of(",:") != std::string::npos);
}

void for_each_program(const Selection& selection,
                      const std::function<void(const CaseSpec&, const Network&, StepProgram)>& body) {
  const std::vector<CaseSpec> specs = specs_of(selection);
  if (selection.loss_scale && std::ranges::none_of(specs, [](const CaseSpec& spec) { return spec.dtype == "f16"; })) {
    throw InputError("--loss_scale", "--dtype=f16", "no case in f16");
  }
  std::map<std::string, Network> networks;
  std::set<std::tuple<uint64_t, int64_t, std::string, std::string>> seen;
  for (const CaseSpec& spec : specs) {
    heed_signals();
    const std::string key = key_of(spec.model);
    auto found = networks.find(key);
    std::optional<StepProgram> program;
    in_file(spec.where, [&] {
      if (found == networks.end()) {
        found = networks.emplace(key, load_network(spec.model, benchmarks_folder() + "/models")).first;
      }
      program = program_of(spec, found->second, selection.loss_scale);
    });
    const Network& network = found->second;
    if (!seen.emplace(network.fingerprint, spec.batch, spec.optimizer, spec.dtype).second) continue;
    body(spec, network, *std::move(program));
  }
}

}  // namespace triphase
