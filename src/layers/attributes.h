// SPDX-License-Identifier: Apache-2.0
// Reads one JSON object key by key, remembering the path for messages, and refuses what was not asked for.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/shape.h"

namespace triphase {

// "an object", "a list of 3", else the value as JSON, cut short: what a message says was found.
std::string describe(const nlohmann::json& value);

class Attributes {
 public:
  // `path` as "$.layers[2]"; throws InputError unless the value is an object.
  Attributes(const nlohmann::json& object, std::string path);

  const std::string& path() const { return path_; }
  std::string path(const std::string& key) const { return path_ + "." + key; }
  bool has(const std::string& key) const { return object_->contains(key); }

  // The value, or null where the key is absent; marks the key as known.
  const nlohmann::json* find(const std::string& key);
  const nlohmann::json& require(const std::string& key, const std::string& expected);

  std::string text(const std::string& key);
  std::string text(const std::string& key, const std::string& fallback);
  bool boolean(const std::string& key, bool fallback);
  // Above 0 and at most 1.
  double positive_fraction(const std::string& key, double fallback);
  int64_t integer(const std::string& key, int64_t minimum, int64_t maximum, std::optional<int64_t> fallback = {});
  // A number, or a pair [height, width].
  std::array<int64_t, 2> pair(const std::string& key, int64_t minimum, int64_t maximum,
                              std::optional<int64_t> fallback = {});
  Shape shape(const std::string& key);

  // Throws InputError if a key is left that nothing asked for; names those that are known.
  void finish() const;

 private:
  const nlohmann::json* object_;
  std::string path_;
  std::set<std::string> known_;
};

// An integer in [minimum, maximum]; whole floats such as 3.0 are refused. `path` for the message.
int64_t read_integer(const nlohmann::json& value, const std::string& path, int64_t minimum, int64_t maximum);

inline constexpr int64_t kMaxExtent = int64_t{1} << 40;  // of any one dimension; products are checked apart
inline constexpr int64_t kMaxWindow = 1 << 16;           // of a kernel, stride, padding or dilation

}  // namespace triphase
