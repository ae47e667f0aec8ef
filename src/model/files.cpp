// SPDX-License-Identifier: Apache-2.0
#include "model/files.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <vector>

#include "core/error.h"
#include "core/join.h"

namespace triphase {
namespace fs = std::filesystem;

namespace {

std::string lower_case(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

}  // namespace

std::string benchmarks_folder() {
  if (const char* folder = std::getenv("TRIPHASE_BENCHMARKS"); folder && *folder) return folder;
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  const fs::path installed = program.parent_path().parent_path() / "share" / "triphase";
  return fs::is_directory(installed, error) ? installed.string() : TRIPHASE_BENCHMARKS_FOLDER;
}

std::string find_json(const std::string& name, const std::string& folder, const std::string& what) {
  if (name.ends_with(".json")) return name;
  std::set<std::string> names;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().extension() != ".json") continue;
    const std::string stem = entry.path().stem().string();
    if (lower_case(stem) == lower_case(name)) return entry.path().string();
    names.insert(stem);
  }
  throw InputError(what, "a .json file or one of " + join(names), "'" + name + "'");
}

nlohmann::json read_json(const std::string& path) {
  constexpr std::uintmax_t kMostBytes = 16 << 20;
  constexpr int kDeepest = 64;  // what reads the document recurses, and must not use up the stack
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) throw InputError(path, "a file", error.message());
  if (!fs::is_regular_file(status)) {
    throw InputError(path, "a file", fs::is_directory(status) ? "a folder" : "something else, such as a pipe");
  }
  const std::uintmax_t bytes = fs::file_size(path, error);
  if (bytes > kMostBytes) throw InputError(path, "at most 16 MiB of JSON", std::to_string(bytes) + " bytes");
  std::ifstream file(path);
  if (!file) throw InputError(path, "a readable file", "an error opening it");
  using Event = nlohmann::json::parse_event_t;
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  const auto check = [&](int depth, Event event, nlohmann::json& value) {
    if (depth > kDeepest) throw InputError(path, "lists and objects at most 64 deep", "deeper ones");
    if (event == Event::object_start) keys.emplace_back();
    if (event == Event::object_end) keys.pop_back();
    if (event == Event::key && !keys.back().insert(value.get<std::string>()).second) {
      throw InputError(path, "each key of an object once", value.dump() + " twice");
    }
    return true;
  };
  try {
    return nlohmann::json::parse(file, check);
  } catch (const nlohmann::json::exception& fault) {  // a parse_error, or out_of_range for numbers such as 1e400
    std::string text = fault.what();
    if (const size_t bracket = text.find("] "); bracket != std::string::npos) text = text.substr(bracket + 2);
    throw InputError(path, "valid JSON", text);
  }
}

}  // namespace triphase
