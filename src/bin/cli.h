// SPDX-License-Identifier: Apache-2.0
// What every main shares: flags through CLI11, and one clear line with exit code 2 for wrong input.
#pragma once

#include <CLI/CLI.hpp>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <new>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "bin/selection.h"
#include "bin/signals.h"
#include "core/error.h"
#include "core/join.h"
#include "optimizers/optimizers.h"

namespace triphase {

inline constexpr int kExitFailed = 1;
inline constexpr int kExitBadInput = 2;

// One line of printable characters, whatever a file or a flag has slipped into it; the middle of a very long one is
// left out.
inline std::string one_line(std::string text) {
  constexpr size_t kMost = 2000;
  if (text.size() > kMost) text.replace(kMost / 2, text.size() - kMost, " ... ");
  std::string line;
  for (const char c : text) {
    if (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f) {
      line += c;
    } else if (c == '\n') {
      line += "\\n";
    } else {
      char code[5];
      std::snprintf(code, sizeof code, "\\x%02x", static_cast<unsigned>(c));
      line += code;
    }
  }
  return line;
}

// Of 64 bits; CLI11 takes the nearest for one that does not fit.
inline CLI::Validator whole_number() {
  const std::string name = "a whole number from 0 to 18446744073709551615";
  return CLI::Validator(
      [name](std::string& given) {
        uint64_t value = 0;
        const char* end = given.data() + given.size();
        const auto [stop, error] = std::from_chars(given.data(), end, value);
        if (error != std::errc() || stop != end) return "expected " + name + ", found '" + given + "'";
        given = std::to_string(value);  // CLI11 would read 010 as 8
        return std::string();
      },
      name);
}

// CLI::Range lets NaN pass.
inline CLI::Validator number_between(double least, double most) {
  std::ostringstream range;
  range << "a number from " << least << " to " << most;
  return CLI::Validator(
      [=, text = range.str()](const std::string& given) {
        double value = 0;
        const bool fits = CLI::detail::lexical_cast(given, value) && value >= least && value <= most;
        return fits ? std::string() : "expected " + text + ", found '" + given + "'";
      },
      range.str());
}

// The flag --loss_scale, for f16: a power of two, which no gradient is rounded by.
inline void add_loss_scale(CLI::App& app, std::optional<double>& loss_scale) {
  const auto check = [](const std::string& given) {
    constexpr int kMostBits = 24;
    double value = 0;
    int exponent = 0;
    const bool fits = CLI::detail::lexical_cast(given, value) && std::isfinite(value) &&
                      std::frexp(value, &exponent) == 0.5 && exponent >= 1 && exponent <= kMostBits + 1;
    return fits ? std::string() : "expected a power of two from 1 to 16777216, found '" + given + "'";
  };
  app.add_option("--loss_scale", loss_scale,
                 "In f16, how many times as large gradients are computed, so that small ones do not become zero: a "
                 "power of two; 1024 if not given")
      ->check(CLI::Validator(check, "a power of two"));
}

// The flags that select what is measured or counted.
inline void add_selection(CLI::App& app, Selection& what) {
  app.add_option("--suite", what.suite,
                 "A suite of benchmarks/suites (quick, full, smoke, kernels, gpu) or a .json file");
  app.add_option("--model", what.models,
                 "A model of benchmarks/models, such as DeeperConvNet:depth=10, or a .json file; may be repeated");
  app.add_option(
      "--batch", what.batch,
      "Examples a step: 1,2,4 or 1:1024:*2 or 10:50:+10; in place of a suite's own, 1 of --model if not given");
  app.add_option("--dtype", what.dtypes,
                 "What to compute in: f32, tf32 (products of rounded operands), bf16 or f16 (mixed precision), several "
                 "with commas; in place of a suite's own, f32 of --model if not given")
      ->delimiter(',');
  add_loss_scale(app, what.loss_scale);
  app.add_option(
         "--optimizer", what.optimizers,
         join(optimizer_names()) + "; several with commas; in place of a suite's own, sgd of --model if not given")
      ->delimiter(',');
}

// Takes the flags, in the order that they were given. Refuses "--name=", which CLI11 would give the next flag as its
// value. Throws CLI::ParseError, InputError.
inline void parse_flags(CLI::App& app, const std::vector<std::string>& arguments) {
  for (const std::string& argument : arguments) {
    if (argument.starts_with("--") && argument.find('=') == argument.size() - 1) {
      throw InputError(argument.substr(0, argument.size() - 1), "a value, as " + argument + "VALUE", "none");
    }
  }
  app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));  // CLI11 takes the last one first
}
inline void parse_flags(CLI::App& app, int argc, char** argv) { parse_flags(app, {argv + 1, argv + argc}); }

// Runs `body`, which parses flags and works, and gives the exit code.
template <class Body>
int guarded(const CLI::App& app, Body body) {
  const auto complain = [&](const std::string& text) {
    std::fprintf(stderr, "%s: %s\n", app.get_name().c_str(), one_line(text).c_str());
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
  } catch (const OutOfMemory& error) {
    return complain(error.what());
  } catch (const std::bad_alloc&) {
    return complain("the description alone does not fit in memory; make the model or the suite smaller");
  } catch (const Interrupted& interruption) {
    complain("interrupted; nothing written");
    return 128 + interruption.signal;
  } catch (const std::exception& error) {
    complain(error.what());
    return kExitFailed;
  }
}

}  // namespace triphase
