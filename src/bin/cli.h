// SPDX-License-Identifier: Apache-2.0
// What every main shares: flags through CLI11, and one clear line with exit code 2 for wrong input.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdio>
#include <new>

#include "core/error.h"

namespace triphase {

inline constexpr int kExitFailed = 1;
inline constexpr int kExitBadInput = 2;

// Runs `body`, which parses flags and works, and gives the exit code.
template <class Body>
int guarded(const CLI::App& app, Body body) {
  const auto complain = [&](const std::string& text) {
    std::fprintf(stderr, "%s: %s\n", app.get_name().c_str(), text.c_str());
    return kExitBadInput;
  };
  try {
    return body();
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help
    return complain(std::string(error.what()) + " (--help lists the flags)");
  } catch (const InputError& error) {
    return complain(error.what());
  } catch (const SizeOverflow& error) {
    return complain(std::string("expected smaller sizes, found ") + error.what());
  } catch (const std::bad_alloc&) {
    return complain("the description alone does not fit in memory; make the model or the suite smaller");
  }
}

}  // namespace triphase
