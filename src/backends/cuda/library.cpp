// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/library.h"

#include <dlfcn.h>

#include <utility>

namespace triphase::cuda {
namespace {

// What dlopen or dlsym has just failed of.
std::string last_error() {
  const char* text = dlerror();
  return text ? text : "no reason given";
}

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < names.size(); ++i) {
    if (i > 0) text += i + 1 < names.size() ? ", " : " or ";
    text += names[i];
  }
  return text;
}

}  // namespace

Library::Library(std::string what, std::vector<std::string> names, std::string remedy)
    : what_(std::move(what)), remedy_(std::move(remedy)) {
  std::string reason;
  bool absent = true;  // so far: nothing was found that could not be loaded
  for (const std::string& name : names) {
    handle_ = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle_) {
      name_ = name;
      return;
    }
    const std::string error = last_error();
    const bool found = !error.starts_with(name + ": cannot open");  // but broken, or in want of another library
    if (reason.empty() || (found && absent)) reason = error;
    if (found) absent = false;
  }
  throw LibraryMissing(what_ + " cannot be loaded as " + listed(names) + " (" + reason + "): " + remedy_);
}

void* Library::find(const char* name) const {
  if (void* symbol = dlsym(handle_, name)) return symbol;
  throw LibraryMissing(what_ + " was loaded as " + name_ + ", which is too old or of another version (" + last_error() +
                       "): " + remedy_);
}

std::vector<std::string> names_by_cuda(const std::string& library, int built_with) {
  std::vector<std::string> names = {library + "." + std::to_string(built_with)};
  for (const int other : {13, 12}) {
    if (other != built_with) names.push_back(library + "." + std::to_string(other));
  }
  names.push_back(library);
  return names;
}

}  // namespace triphase::cuda
