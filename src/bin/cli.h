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

// Runs `body` after `app` has parsed the flags; gives the exit code.
template <class Body>
int run_main(CLI::App& app, int argc, char** argv, Body body) {
  try {
    app.parse(argc, argv);
    return body();
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help
    std::fprintf(stderr, "%s: %s (--help lists the flags)\n", app.get_name().c_str(), error.what());
  } catch (const InputError& error) {
    std::fprintf(stderr, "%s: %s\n", app.get_name().c_str(), error.what());
  } catch (const SizeOverflow& error) {
    std::fprintf(stderr, "%s: expected smaller sizes, found %s\n", app.get_name().c_str(), error.what());
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "%s: the description alone does not fit in memory; make the model smaller\n",
                 app.get_name().c_str());
  }
  return kExitBadInput;
}

}  // namespace triphase
