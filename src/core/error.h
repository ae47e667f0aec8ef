// SPDX-License-Identifier: Apache-2.0
// The kinds of failure. Wrong input throws InputError with the place, what was expected and what was found;
// inability is a returned Unsupported and becomes a skipped row; a library's error throws VendorError.
#pragma once

#include <new>
#include <stdexcept>
#include <string>
#include <utility>

namespace triphase {

// Wrong input. `where` is a JSON path, a flag or a file name. what() is one line.
class InputError : public std::runtime_error {
 public:
  InputError(const std::string& where, const std::string& expected, const std::string& found)
      : std::runtime_error(where + ": expected " + expected + ", found " + found) {}
  InputError(const std::string& where, const std::string& message) : std::runtime_error(where + ": " + message) {}
};

// A size that does not fit in 63 bits.
class SizeOverflow : public std::overflow_error {
 public:
  SizeOverflow() : std::overflow_error("a size beyond 2^63 - 1") {}
};

// A library's call failed: its text and status.
class VendorError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// What a backend cannot do, and why.
struct Unsupported {
  std::string reason;
};

// Thrown within a backend for what it has no way to run; becomes Unsupported.
class Unimplemented : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Memory was refused: what() says how much was needed and, where known, how much there is.
class OutOfMemory : public std::bad_alloc {
 public:
  explicit OutOfMemory(std::string what) : what_(std::move(what)) {}
  const char* what() const noexcept override { return what_.c_str(); }

 private:
  std::string what_;
};

}  // namespace triphase
