// SPDX-License-Identifier: Apache-2.0
#include "model/network.h"

#include <algorithm>
#include <functional>
#include <queue>
#include <set>
#include <sstream>

#include "core/error.h"
#include "core/random.h"
#include "model/files.h"

namespace triphase {

using nlohmann::json;

namespace {

constexpr int64_t kMostLayers = 100'000;
constexpr size_t kLongestName = 200;

// Whether a name has letters, digits and characters of `others` alone, and not too many.
bool is_name(const std::string& name, std::string_view others) {
  return !name.empty() && name.size() <= kLongestName && std::ranges::all_of(name, [&](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || others.find(c) != others.npos;
  });
}

// "$depth" stands for the value of the parameter depth; anything else for itself. `used` gets the names that stand.
json substitute(const json& value, const json& parameters, const std::string& path, std::set<std::string>& used) {
  if (value.is_string() && value.get_ref<const std::string&>().starts_with('$')) {
    const std::string name = value.get<std::string>().substr(1);
    if (!parameters.contains(name)) throw InputError(path, "a parameter of this model", "'$" + name + "'");
    used.insert(name);
    return parameters.at(name);
  }
  if (value.is_array()) {
    json result = json::array();
    for (size_t i = 0; i < value.size(); ++i) {
      result.push_back(substitute(value[i], parameters, path + "[" + std::to_string(i) + "]", used));
    }
    return result;
  }
  return value;
}

json substitute_members(const json& object, const json& parameters, const std::string& path,
                        std::set<std::string>& used) {
  if (!object.is_object()) return object;
  json result = json::object();
  for (const auto& [key, value] : object.items()) {
    result[key] = key == "layers" ? value : substitute(value, parameters, path + "." + key, used);
  }
  return result;
}

json merge_parameters(const json& defaults, const json& given, const std::string& model) {
  json merged = defaults;
  for (const auto& [name, value] : defaults.items()) {
    if (!value.is_boolean() && !value.is_number_integer()) {
      throw InputError("$.parameters." + name, "an integer or a boolean", describe(value));
    }
  }
  for (const auto& [name, value] : given.items()) {
    if (!defaults.contains(name)) {
      std::string names;
      for (const auto& [known, unused] : defaults.items()) names += (names.empty() ? "" : ", ") + known;
      throw InputError("parameter " + name, "one of " + (names.empty() ? "none" : names) + " (those of " + model + ")",
                       "an unknown one");
    }
    const json& standard = defaults.at(name);
    if (standard.is_boolean() ? !value.is_boolean() : !value.is_number_integer()) {
      throw InputError("parameter " + name, standard.is_boolean() ? "true or false" : "an integer", describe(value));
    }
    merged[name] = value;
  }
  return merged;
}

// Expands repeats and resolves names; layers stay in the order listed.
class LayerList {
 public:
  LayerList(const json& parameters, std::set<std::string>& used) : parameters_(parameters), used_(used) {}

  void expand(const json& list, const std::string& path, const std::string& suffix, const std::string& owner_suffix) {
    if (!list.is_array()) throw InputError(path, "a list of layers", describe(list));
    scopes_.push_back({suffix, {}});
    for (const json& item : list) {
      if (item.is_object() && item.contains("name") && item["name"].is_string()) {
        scopes_.back().names.insert(item["name"].get<std::string>());
      }
    }
    for (size_t i = 0; i < list.size(); ++i) {
      const std::string here = path + "[" + std::to_string(i) + "]";
      if (++items_ > kMostLayers) {
        throw InputError(here, "at most " + std::to_string(kMostLayers) + " layers and repeats", "more");
      }
      const json item = substitute_members(list[i], parameters_, here, used_);
      if (item.is_object() && item.contains("repeat")) {
        expand_repeat(item, here, suffix, owner_suffix);
      } else {
        append(item, here, suffix, owner_suffix);
      }
    }
    scopes_.pop_back();
  }

  // In an order that respects inputs and otherwise keeps the list's. Throws on dangling inputs, cycles and unread
  // layers.
  std::vector<Network::Layer> sorted() const;

 private:
  struct Scope {
    std::string suffix;
    std::set<std::string> names;
  };

  void expand_repeat(const json& item, const std::string& path, const std::string& suffix,
                     const std::string& owner_suffix) {
    Attributes attributes(item, path);
    const int64_t count = attributes.integer("repeat", 0, kMostLayers);
    const bool shared = attributes.boolean("share_weights", false);
    const json& inner = attributes.require("layers", "a list of layers");
    attributes.finish();
    if (inner.is_array() && inner.empty()) throw InputError(path + ".layers", "at least one layer", "none");
    for (int64_t i = 0; i < count; ++i) {
      const std::string step = "." + std::to_string(i);
      expand(inner, path + ".layers", suffix + step, owner_suffix + (shared ? ".0" : step));
    }
  }

  void append(const json& item, const std::string& path, const std::string& suffix, const std::string& owner_suffix) {
    Attributes attributes(item, path);
    const std::string name = attributes.text("name");
    if (!is_name(name, "_-") || name == "input" || name == "loss") {
      throw InputError(attributes.path("name"), "at most 200 letters, digits, _ and -, and neither input nor loss",
                       describe(name));
    }
    Network::Layer layer;
    layer.name = name + suffix;
    layer.owner = name + owner_suffix;
    layer.path = path;
    layer.kind = attributes.text("kind");
    if (!seen_.insert(layer.name).second)
      throw InputError(attributes.path("name"), "a new name", "'" + name + "' again");
    const LayerKind& kind = find_kind(layer_kinds(), layer.kind, attributes.path("kind"));
    layer.inputs = read_inputs(attributes, kind);
    layer.lower = kind.read(attributes);
    attributes.finish();
    layers_.push_back(std::move(layer));
  }

  std::vector<std::string> read_inputs(Attributes& attributes, const LayerKind& kind) const {
    const json* value = attributes.find("inputs");
    if (!value) {
      if (kind.inputs != 1)
        throw InputError(attributes.path("inputs"), std::to_string(kind.inputs) + " names", "nothing");
      return {layers_.empty() ? "input" : layers_.back().name};
    }
    if (!value->is_array() || value->size() != kind.inputs) {
      throw InputError(attributes.path("inputs"), "a list of " + std::to_string(kind.inputs) + " names",
                       describe(*value));
    }
    std::vector<std::string> inputs;
    for (const json& name : *value) {
      if (!name.is_string()) throw InputError(attributes.path("inputs"), "names of layers", describe(name));
      inputs.push_back(resolve(name.get<std::string>()));
    }
    return inputs;
  }

  // A name of the innermost list that has it, else a full name such as "conv.3".
  std::string resolve(const std::string& name) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      if (scope->names.contains(name)) return name + scope->suffix;
    }
    return name;
  }

 public:
  static const LayerKind& find_kind(std::span<const LayerKind> kinds, const std::string& name,
                                    const std::string& path) {
    std::string names;
    for (const LayerKind& kind : kinds) {
      if (kind.name == name) return kind;
      names += (names.empty() ? "" : ", ") + std::string(kind.name);
    }
    throw InputError(path, "one of " + names, "'" + name + "'");
  }

 private:
  const json& parameters_;
  std::set<std::string>& used_;  // names of parameters that stand somewhere
  std::vector<Scope> scopes_;
  std::vector<Network::Layer> layers_;
  std::set<std::string> seen_;
  int64_t items_ = 0;  // layers and repeats so far: repeats of nothing must end as well
};

std::vector<Network::Layer> LayerList::sorted() const {
  if (layers_.empty()) throw InputError("$.layers", "at least one layer", "none");
  std::map<std::string, size_t> index_of;
  for (size_t i = 0; i < layers_.size(); ++i) index_of[layers_[i].name] = i;
  std::vector<std::vector<size_t>> readers(layers_.size());
  std::vector<size_t> missing(layers_.size());  // inputs not yet placed
  std::set<std::string> read;
  for (size_t i = 0; i < layers_.size(); ++i) {
    for (const std::string& input : layers_[i].inputs) {
      read.insert(input);
      if (input == "input") continue;
      const auto found = index_of.find(input);
      if (found == index_of.end()) {
        throw InputError(layers_[i].path + ".inputs", "names of layers, or input", describe(input));
      }
      readers[found->second].push_back(i);
      ++missing[i];
    }
  }
  // Sweeps over the list, each placing what is ready: a layer listed before one that it reads waits for the next sweep.
  using SweepAndIndex = std::pair<size_t, size_t>;
  std::priority_queue<SweepAndIndex, std::vector<SweepAndIndex>, std::greater<>> ready;
  std::vector<size_t> sweep_of(layers_.size());
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (missing[i] == 0) ready.emplace(0, i);
  }
  std::vector<Network::Layer> order;
  while (!ready.empty()) {
    const auto [sweep, i] = ready.top();
    ready.pop();
    order.push_back(layers_[i]);
    for (const size_t reader : readers[i]) {
      sweep_of[reader] = std::max(sweep_of[reader], sweep + (reader < i ? 1 : 0));
      if (--missing[reader] == 0) ready.emplace(sweep_of[reader], reader);
    }
  }
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (missing[i] != 0)
      throw InputError(layers_[i].path + ".inputs", "no cycle", "one through '" + layers_[i].name + "'");
  }
  for (size_t i = 0; i + 1 < order.size(); ++i) {
    if (!read.contains(order[i].name)) {
      throw InputError(order[i].path, "a layer that another reads", "'" + order[i].name + "', which none does");
    }
  }
  return order;
}

}  // namespace

ModelSpec parse_model_spec(const std::string& text) {
  ModelSpec spec;
  const size_t colon = text.find(':');
  spec.name = text.substr(0, colon);
  if (spec.name.empty()) throw InputError("model", "a name", "'" + text + "'");
  if (colon == std::string::npos) return spec;
  if (colon + 1 == text.size()) throw InputError("model " + text, "name=value after the colon", "nothing");
  std::istringstream list(text.substr(colon + 1));
  for (std::string item; std::getline(list, item, ',');) {
    const size_t equals = item.find('=');
    const std::string name = item.substr(0, equals);
    const json value = equals == std::string::npos ? json(json::value_t::discarded)
                                                   : json::parse(item.substr(equals + 1), nullptr, false);
    if (name.empty() || (!value.is_boolean() && !value.is_number_integer())) {
      throw InputError("model " + text, "name=integer or name=true or name=false after the colon", "'" + item + "'");
    }
    if (spec.parameters.contains(name))
      throw InputError("model " + text, "each parameter once", "'" + name + "' twice");
    spec.parameters[name] = value;
  }
  return spec;
}

Network parse_network(const json& root, const json& given) {
  Attributes top(root, "$");
  Network network;
  network.name = top.text("name");
  if (!is_name(network.name, "_.+-")) {
    throw InputError("$.name", "at most 200 letters, digits, _ . + and -", describe(network.name));
  }
  const json* defaults = top.find("parameters");
  const json none = json::object();
  if (defaults && !defaults->is_object()) throw InputError("$.parameters", "an object", describe(*defaults));
  network.parameters = merge_parameters(defaults ? *defaults : none, given, network.name);
  network.fingerprint = random_stream(root.dump() + network.parameters.dump(), 0);
  network.spec = network.name;
  for (const auto& [name, value] : network.parameters.items()) {
    if (value == defaults->at(name)) continue;
    network.spec += (network.spec == network.name ? ":" : ",") + name + "=" + value.dump();
  }

  std::set<std::string> used;
  const json input_json = substitute_members(top.require("input", "an object"), network.parameters, "$.input", used);
  Attributes input(input_json, "$.input");
  network.input_shape = input.shape("shape");
  if (const std::string dtype = input.text("dtype", "f32"); dtype != "f32") {
    throw InputError("$.input.dtype", "f32", "'" + dtype + "'");
  }
  input.finish();

  LayerList list(network.parameters, used);
  list.expand(top.require("layers", "a list of layers"), "$.layers", "", "");
  network.layers = list.sorted();

  const json loss_json = substitute_members(top.require("loss", "an object"), network.parameters, "$.loss", used);
  Attributes loss(loss_json, "$.loss");
  network.loss_kind = loss.text("kind");
  network.loss = LayerList::find_kind(loss_kinds(), network.loss_kind, "$.loss.kind").read(loss);
  loss.finish();
  top.finish();
  for (const auto& [name, unused] : network.parameters.items()) {
    if (!used.contains(name)) {
      throw InputError("$.parameters." + name, "a parameter that stands somewhere, as \"$" + name + "\"",
                       "none that does");
    }
  }
  return network;
}

Network load_network(const ModelSpec& spec, const std::string& folder) {
  const std::string path = find_json(spec.name, folder, "model");
  try {
    return parse_network(read_json(path), spec.parameters);
  } catch (const InputError& error) {
    const std::string text = error.what();
    if (text.starts_with(path)) throw;
    throw InputError(path, text);
  }
}

void require_batch(int64_t batch, const std::string& where) {
  if (batch >= 1 && batch <= kMaxExtent) return;
  throw InputError(where, "an integer from 1 to " + std::to_string(kMaxExtent), std::to_string(batch));
}

StepProgram lower(const Network& network, int64_t batch, const Optimizer& optimizer) {
  require_batch(batch, "batch");
  std::string path = "$.input.shape";
  try {
    Builder builder(batch, optimizer);
    std::map<std::string, TensorId> outputs = {{"input", builder.input(network.input_shape)}};
    TensorId last = kNoTensor;
    for (const Network::Layer& layer : network.layers) {
      path = layer.path;
      std::vector<TensorId> inputs;
      for (const std::string& name : layer.inputs) inputs.push_back(outputs.at(name));
      last = outputs[layer.name] = builder.layer(layer.name, layer.kind, layer.owner, layer.lower, inputs);
    }
    path = "$.loss";
    if (!builder.needs_gradient(last)) throw std::invalid_argument("expected a layer with parameters, found none");
    StepProgram program = builder.finish(network.loss_kind, network.loss, last);
    path = "$";
    logical_memory(program);
    for (const Op& op : program.ops) cost(program, op);
    return program;
  } catch (const std::invalid_argument& error) {
    throw InputError(network.name + " " + path, error.what());
  } catch (const SizeOverflow& error) {
    throw InputError(network.name + " " + path, "sizes below 2^63", error.what());
  }
}

}  // namespace triphase
