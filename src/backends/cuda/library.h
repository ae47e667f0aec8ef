// SPDX-License-Identifier: Apache-2.0
// A shared library that is located at run time, so that what was built on a machine without it runs on one with it, and
// tells clearly what is missing. Never closed again: CUDA's libraries leave threads and hooks behind.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

namespace triphase::cuda {

// One line: what was looked for, why it cannot be used, and what to do.
class LibraryMissing : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class Library {
 public:
  // Loads the first of `names` that can be. `what` is for people ("cuDNN 9"), `remedy` says what to do where it is
  // missing. Throws LibraryMissing.
  Library(std::string what, std::vector<std::string> names, std::string remedy);
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  void* handle() const { return handle_; }
  // Throws LibraryMissing where the library has none of that name.
  template <class Function>
  Function* symbol(const char* name) const {
    return reinterpret_cast<Function*>(find(name));
  }

 private:
  void* find(const char* name) const;

  std::string what_;
  std::string name_;  // as which it was loaded
  std::string remedy_;
  void* handle_ = nullptr;
};

// The names of one of CUDA's libraries, "libcublasLt.so": first that of the CUDA that this was built with, since
// another may want another driver.
std::vector<std::string> names_by_cuda(const std::string& library, int built_with);

}  // namespace triphase::cuda
