// SPDX-License-Identifier: Apache-2.0
#include "layers/attributes.h"

#include "core/error.h"
#include "core/join.h"

namespace triphase {

using nlohmann::json;

std::string describe(const json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "a list of " + std::to_string(value.size());
  std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  constexpr size_t kMost = 60;
  if (text.size() > kMost) text = text.substr(0, kMost) + "...";
  return text;
}

Attributes::Attributes(const json& object, std::string path) : object_(&object), path_(std::move(path)) {
  if (!object.is_object()) throw InputError(path_, "an object", describe(object));
}

const json* Attributes::find(const std::string& key) {
  known_.insert(key);
  const auto found = object_->find(key);
  return found == object_->end() ? nullptr : &*found;
}

const json& Attributes::require(const std::string& key, const std::string& expected) {
  const json* value = find(key);
  if (!value) throw InputError(path(key), expected, "nothing");
  return *value;
}

std::string Attributes::text(const std::string& key) {
  const json& value = require(key, "a string");
  if (!value.is_string() || value.get_ref<const std::string&>().empty()) {
    throw InputError(path(key), "a non-empty string", describe(value));
  }
  return value.get<std::string>();
}

std::string Attributes::text(const std::string& key, const std::string& fallback) {
  return find(key) ? text(key) : fallback;
}

bool Attributes::boolean(const std::string& key, bool fallback) {
  const json* value = find(key);
  if (!value) return fallback;
  if (!value->is_boolean()) throw InputError(path(key), "true or false", describe(*value));
  return value->get<bool>();
}

double Attributes::positive_fraction(const std::string& key, double fallback) {
  const json* value = find(key);
  if (!value) return fallback;
  if (!value->is_number() || !(value->get<double>() > 0 && value->get<double>() <= 1)) {
    throw InputError(path(key), "a number above 0 and up to 1", describe(*value));
  }
  return value->get<double>();
}

int64_t Attributes::integer(const std::string& key, int64_t minimum, int64_t maximum, std::optional<int64_t> fallback) {
  const json* value = find(key);
  if (!value && fallback) return *fallback;
  return read_integer(require(key, "an integer"), path(key), minimum, maximum);
}

std::array<int64_t, 2> Attributes::pair(const std::string& key, int64_t minimum, int64_t maximum,
                                        std::optional<int64_t> fallback) {
  const json* value = find(key);
  if (!value && fallback) return {*fallback, *fallback};
  const json& present = require(key, "an integer or a pair of them");
  if (!present.is_array()) {
    const int64_t both = read_integer(present, path(key), minimum, maximum);
    return {both, both};
  }
  if (present.size() != 2) throw InputError(path(key), "an integer or a pair of them", describe(present));
  return {read_integer(present[0], path(key) + "[0]", minimum, maximum),
          read_integer(present[1], path(key) + "[1]", minimum, maximum)};
}

Shape Attributes::shape(const std::string& key) {
  const json& value = require(key, "a list of extents");
  constexpr size_t kMostDimensions = 6;
  if (!value.is_array() || value.empty() || value.size() > kMostDimensions) {
    throw InputError(path(key), "a list of 1 to 6 extents", describe(value));
  }
  Shape shape;
  for (size_t i = 0; i < value.size(); ++i) {
    shape.push_back(read_integer(value[i], path(key) + "[" + std::to_string(i) + "]", 1, kMaxExtent));
  }
  return shape;
}

void Attributes::finish() const {
  for (const auto& [key, value] : object_->items()) {
    if (known_.contains(key)) continue;
    throw InputError(path_ + "." + key, "only the keys " + join(known_), "an unknown key");
  }
}

int64_t read_integer(const json& value, const std::string& path, int64_t minimum, int64_t maximum) {
  const bool too_large = value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX);
  if (!value.is_number_integer() || too_large || value.get<int64_t>() < minimum || value.get<int64_t>() > maximum) {
    throw InputError(path, "an integer from " + std::to_string(minimum) + " to " + std::to_string(maximum),
                     describe(value));
  }
  return value.get<int64_t>();
}

}  // namespace triphase
