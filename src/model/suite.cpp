// SPDX-License-Identifier: Apache-2.0
#include "model/suite.h"

#include <charconv>
#include <sstream>

#include "core/error.h"

namespace triphase {

using nlohmann::json;

namespace {

constexpr size_t kMostCases = 100'000;

// Whether so many of each make more cases than may be; looked at before they are made.
void refuse_too_many(const std::string& where, std::initializer_list<size_t> factors, size_t already = 0) {
  size_t count = 1;
  for (const size_t factor : factors) {
    if (factor > 0 && count > kMostCases / factor) throw InputError(where, "at most 100000 cases", "more");
    count *= factor;
  }
  if (already + count > kMostCases) throw InputError(where, "at most 100000 cases", "more");
}

int64_t parse_integer(const std::string& text, const std::string& what) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) throw InputError(what, "an integer", "'" + text + "'");
  return value;
}

std::vector<json> values_of(const json& value, const std::string& path) {
  if (value.is_string() && value.get_ref<const std::string&>().find(':') != std::string::npos) {
    const std::vector<int64_t> range = parse_range(value.get<std::string>(), path);
    return {range.begin(), range.end()};
  }
  if (!value.is_array()) return {value};
  if (value.empty()) throw InputError(path, "at least one value", "an empty list");
  return value.get<std::vector<json>>();
}

std::vector<std::string> texts_of(Attributes& entry, const std::string& key, const std::string& fallback) {
  const json* value = entry.find(key);
  if (!value) return {fallback};
  std::vector<std::string> texts;
  for (const json& text : value->is_string() ? std::vector<json>{*value} : values_of(*value, entry.path(key))) {
    if (!text.is_string()) throw InputError(entry.path(key), "a string or a list of them", describe(text));
    texts.push_back(text.get<std::string>());
  }
  return texts;
}

}  // namespace

std::vector<int64_t> parse_range(const std::string& text, const std::string& what) {
  std::vector<int64_t> values;
  std::istringstream list(text);
  for (std::string item; std::getline(list, item, ',');) {
    const size_t first = item.find(':');
    if (first == std::string::npos) {
      values.push_back(parse_integer(item, what));
      continue;
    }
    const size_t second = item.find(':', first + 1);
    const std::string step = second == std::string::npos ? "" : item.substr(second + 1);
    if (step.size() < 2 || (step[0] != '*' && step[0] != '+')) {
      throw InputError(what, "from:to:*factor or from:to:+step", "'" + item + "'");
    }
    const int64_t to = parse_integer(item.substr(first + 1, second - first - 1), what);
    const int64_t by = parse_integer(step.substr(1), what);
    const bool times = step[0] == '*';
    int64_t value = parse_integer(item.substr(0, first), what);
    if (by < (times ? 2 : 1) || value > to || (times && value < 1)) {
      throw InputError(what, "a range that grows from its first value to its last", "'" + item + "'");
    }
    // Whether a next value lies within; looked at before it is made, so that none overflows.
    const auto more = [&] {
      return times ? value <= to / by
                   : static_cast<uint64_t>(to) - static_cast<uint64_t>(value) >= static_cast<uint64_t>(by);
    };
    for (;; value = times ? value * by : value + by) {
      if (values.size() >= kMostCases) throw InputError(what, "at most 100000 values", "'" + item + "'");
      values.push_back(value);
      if (!more()) break;
    }
  }
  if (values.empty() || text.ends_with(',')) throw InputError(what, "a list of integers", "'" + text + "'");
  return values;
}

void add_cases(const Crossing& crossing, const std::string& where, std::vector<CaseSpec>& cases) {
  const auto& [models, batches, optimizers, dtypes] = crossing;
  refuse_too_many(where.empty() ? "--model" : where, {models.size(), batches.size(), optimizers.size(), dtypes.size()},
                  cases.size());
  for (const ModelSpec& model : models) {
    for (const int64_t batch : batches) {
      for (const std::string& optimizer : optimizers) {
        for (const std::string& dtype : dtypes) cases.push_back({model, batch, optimizer, dtype, where});
      }
    }
  }
}

std::vector<CaseSpec> parse_suite(const json& root) {
  if (!root.is_array() || root.empty()) throw InputError("$", "a list of entries, one at least", describe(root));
  std::vector<CaseSpec> cases;
  for (size_t i = 0; i < root.size(); ++i) {
    const std::string where = "$[" + std::to_string(i) + "]";
    Attributes entry(root[i], where);
    entry.require("model", "the name of a model");
    Crossing crossing;
    std::vector<ModelSpec>& models = crossing.models;
    for (const std::string& name : texts_of(entry, "model", "")) models.push_back(parse_model_spec(name));
    const json* batch_json = entry.find("batch");
    for (const json& batch : batch_json ? values_of(*batch_json, entry.path("batch")) : std::vector<json>{1}) {
      crossing.batches.push_back(read_integer(batch, entry.path("batch"), 1, kMaxExtent));
    }
    crossing.optimizers = texts_of(entry, "optimizer", "sgd");
    crossing.dtypes = texts_of(entry, "dtype", "f32");

    if (const json* parameters = entry.find("parameters")) {
      if (!parameters->is_object()) throw InputError(entry.path("parameters"), "an object", describe(*parameters));
      for (const auto& [name, value] : parameters->items()) {
        const std::string path = entry.path("parameters") + "." + name;
        const std::vector<json> choices = values_of(value, path);
        refuse_too_many(path, {models.size(), choices.size()});
        std::vector<ModelSpec> crossed;
        for (const ModelSpec& base : models) {
          for (const json& choice : choices) {
            crossed.push_back(base);
            crossed.back().parameters[name] = choice;
          }
        }
        models = std::move(crossed);
      }
    }
    entry.finish();
    add_cases(crossing, where, cases);
  }
  return cases;
}

}  // namespace triphase
