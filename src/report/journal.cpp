// SPDX-License-Identifier: Apache-2.0
#include "report/journal.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "core/error.h"

namespace triphase {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

namespace {

[[noreturn]] void fail(const std::string& path, const std::string& action) {
  throw InputError(path, "a file that can be written", "an error on " + action + ": " + std::strerror(errno));
}

void write_all(int file, const std::string& text, const std::string& path) {
  for (size_t done = 0; done < text.size();) {
    const ssize_t count = ::write(file, text.data() + done, text.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail(path, "writing");
    done += static_cast<size_t>(count);
  }
  if (fsync(file) != 0 && errno != EINVAL) fail(path, "syncing");  // EINVAL: a pipe or the like
}

// Where a link leads in the end, whether or not there is anything; any other path itself.
std::string followed(fs::path path) {
  constexpr int kMostLinks = 40;
  std::error_code error;
  for (int links = 0; fs::is_symlink(path, error); ++links) {
    if (links == kMostLinks) throw InputError(path, "a file that can be written", "links that lead to each other");
    path = path.parent_path() / fs::read_symlink(path, error);
  }
  return path.string();
}

// Keeps others out of a journal until it is closed. False where another process has it.
bool lock(int file) { return flock(file, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK; }

bool is_in_use(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY);
  if (file < 0) return false;
  const bool free = lock(file);
  close(file);
  return !free;
}

[[noreturn]] void fail_in_use(const std::string& path) {
  throw InputError(path, "no journal", "that of a run that goes on now; wait for it, or write to another file");
}

void sync_folder(const std::string& path) {
  const fs::path folder = fs::path(path).has_parent_path() ? fs::path(path).parent_path() : fs::path(".");
  const int file = open(folder.c_str(), O_RDONLY | O_DIRECTORY);
  if (file < 0) return;
  fsync(file);
  close(file);
}

}  // namespace

void write_atomically(const std::string& given, const std::string& text) {
  std::error_code error;
  const std::string path = followed(given);
  if (fs::exists(path, error) && !fs::is_regular_file(path, error)) {  // /dev/stdout and the like: nothing to rename
    const int file = open(path.c_str(), O_WRONLY);
    if (file < 0) fail(path, "opening");
    write_all(file, text, path);
    close(file);
    return;
  }
  const std::string temporary = path + ".tmp" + std::to_string(getpid());
  const int file = open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
  if (file < 0) fail(path, "creating " + temporary);
  try {
    if (struct stat earlier{}; stat(path.c_str(), &earlier) == 0) fchmod(file, earlier.st_mode & 07777);
    write_all(file, text, path);
  } catch (...) {
    close(file);
    unlink(temporary.c_str());
    throw;
  }
  close(file);
  if (rename(temporary.c_str(), path.c_str()) != 0) {
    const int saved = errno;
    unlink(temporary.c_str());
    errno = saved;
    fail(path, "renaming onto it");
  }
  sync_folder(path);
}

Journal::Journal(const std::string& output, const Json& run, bool resume) {
  if (output.empty()) {
    if (resume) throw InputError("--resume", "--benchmark_out=FILE, beside which the journal lies", "none");
    return;
  }
  std::error_code error;
  if (fs::exists(output, error) && !fs::is_regular_file(output, error)) {
    if (fs::is_directory(output, error)) throw InputError(output, "a file to write", "a folder");
    return;
  }
  path_ = output + ".journal";
  if (std::ifstream earlier(path_); earlier) {
    if (is_in_use(path_)) fail_in_use(path_);
    std::string line;
    std::getline(earlier, line);
    const Json header = Json::parse(line, nullptr, false);
    if (!header.is_object() || !header.contains("run")) {
      throw InputError(path_, "a journal of this program, or no such file", "something else; move it away");
    }
    if (!resume) {
      throw InputError(path_, "no journal",
                       "that of an unfinished run; --resume goes on with it, or delete it to begin anew");
    }
    if (header["run"] != run) {
      throw InputError(path_, "a journal of the same machine and flags",
                       "another; run with its flags " + header["run"].dump() + " or delete it to begin anew");
    }
    while (std::getline(earlier, line)) {
      const Json entry = Json::parse(line, nullptr, false);
      try {
        earlier_[{entry.at("case").get<std::string>(), entry.at("repetition").get<int>()}] =
            entry.at("rows").get<Rows>();
      } catch (const Json::exception&) {  // a line cut off by the interruption, or damaged: measured again
      }
    }
  } else if (resume && fs::exists(output, error)) {
    throw InputError(output, "a journal beside it, of an unfinished run",
                     "results and no journal; leave --resume out to measure anew");
  }
  // Written anew, so that a line cut off does not stay in the middle.
  std::string text = Json{{"run", run}}.dump() + "\n";
  for (const auto& [key, rows] : earlier_) {
    text += Json{{"case", key.first}, {"repetition", key.second}, {"rows", rows}}.dump() + "\n";
  }
  write_atomically(path_, text);
  file_ = open(path_.c_str(), O_WRONLY | O_APPEND);
  if (file_ < 0) fail(path_, "opening");
  if (!lock(file_)) fail_in_use(path_);
}

Journal::~Journal() {
  if (file_ >= 0) close(file_);
}

const Journal::Rows* Journal::find(const std::string& case_name, int repetition) const {
  const auto found = earlier_.find({case_name, repetition});
  return found == earlier_.end() ? nullptr : &found->second;
}

void Journal::append(const std::string& case_name, int repetition, const Rows& rows) {
  if (file_ < 0) return;
  try {
    write_all(file_, Json{{"case", case_name}, {"repetition", repetition}, {"rows", rows}}.dump() + "\n", path_);
  } catch (const InputError& error) {
    throw InputError(error.what(), "what was measured before is kept in it; once there is room, --resume goes on");
  }
}

void Journal::discard() {
  if (!path_.empty()) unlink(path_.c_str());
}

}  // namespace triphase
