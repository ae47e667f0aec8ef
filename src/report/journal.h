// SPDX-License-Identifier: Apache-2.0
// Results that survive: while a run goes on, each finished case is a synced line of a journal beside the output; at the
// end the output is written whole to a temporary file, synced and renamed. A crash or a full disk leaves either nothing
// new or all of it.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace triphase {

// Replaces `path` by `text`. Throws InputError naming the path and the system's reason; the old file then still stands.
void write_atomically(const std::string& path, const std::string& text);

class Journal {
 public:
  using Rows = std::vector<nlohmann::ordered_json>;

  // Keeps `output`.journal; no output, no journal. `run` says what the results depend on (flags, environment). A
  // journal of an earlier run is read with `resume`, and refused without it; that of a run that still goes on is
  // refused. Throws InputError.
  Journal(const std::string& output, const nlohmann::ordered_json& run, bool resume);
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;
  ~Journal();

  // The rows of a case that an earlier run has measured, or null.
  const Rows* find(const std::string& case_name, int repetition) const;
  // Appends a line and syncs it. Throws InputError on a full disk; the lines before are kept.
  void append(const std::string& case_name, int repetition, const Rows& rows);
  // Removes the file: its rows are all in the output now.
  void discard();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int file_ = -1;
  std::map<std::pair<std::string, int>, Rows> earlier_;
};

}  // namespace triphase
