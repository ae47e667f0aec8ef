// SPDX-License-Identifier: Apache-2.0
#include "bench_flags.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string_view>

#include "report/environment.h"
#include "report/format.h"

namespace triphase {

namespace {

// As Google Benchmark reads it.
bool is_true(std::string value) {
  std::ranges::transform(value, value.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  constexpr std::array<std::string_view, 6> kFalse = {"0", "f", "false", "n", "no", "off"};
  return std::ranges::find(kFalse, value) == kFalse.end();
}

int repetitions(const std::string& value, const std::string& where) {
  const std::vector<int64_t> parsed = parse_range(value, where);
  if (parsed.size() == 1 && parsed[0] >= 1 && parsed[0] <= 10'000) return static_cast<int>(parsed[0]);
  throw InputError(where, "an integer from 1 to 10000", "'" + value + "'");
}

std::string one_of(const std::vector<std::string>& known, const std::string& value, const std::string& where) {
  if (std::ranges::find(known, value) != known.end()) return value;
  std::string expected = known.front();
  for (size_t i = 1; i < known.size(); ++i) expected += " or " + known[i];
  throw InputError(where, expected, "'" + value + "'");
}

void add_context(std::vector<std::string>& context, const std::string& text, const std::string& where) {
  std::istringstream list(text);
  for (std::string item; std::getline(list, item, ',');) {
    const size_t equals = item.find('=');
    if (equals == std::string::npos || equals == 0) {
      throw InputError(where, "key=value[,key=value...]", "'" + item + "'");
    }
    const std::string key = item.substr(0, equals + 1);
    if (std::ranges::any_of(context, [&](const std::string& other) { return other.starts_with(key); })) {
      throw InputError(where, "each key once", item.substr(0, equals) + " twice");
    }
    context.push_back(item);
  }
}

// Takes a value, given by a flag or by the environment: `where`.
using Take = std::function<void(BenchFlags&, const std::string& value, const std::string& where)>;

const std::map<std::string, Take>& taken() {
  static const std::map<std::string, Take> flags = {
      {"filter", [](auto& to, auto& value, auto&) { to.filter = value; }},
      {"repetitions", [](auto& to, auto& value, auto& where) { to.repetitions = repetitions(value, where); }},
      {"list_tests", [](auto& to, auto& value, auto&) { to.list_tests = is_true(value); }},
      {"enable_random_interleaving", [](auto& to, auto& value, auto&) { to.random_interleaving = is_true(value); }},
      {"out", [](auto& to, auto& value, auto&) { to.out = value; }},
      {"out_format", [](auto&, auto& value, auto& where) { one_of({"json"}, value, where); }},
      {"format",
       [](auto& to, auto& value, auto& where) {
         to.format = one_of({"console", "json"}, value, where);
       }},
      {"context", [](auto& to, auto& value, auto& where) { add_context(to.context, value, where); }},
  };
  return flags;
}

// They say how Google Benchmark measures and prints, which it does not do here.
constexpr std::array<std::string_view, 8> kOfNoEffect = {
    "min_time",         "min_warmup_time", "time_unit",    "report_aggregates_only", "display_aggregates_only",
    "counters_tabular", "color",           "perf_counters"};

std::string in_environment(std::string name) {
  std::ranges::transform(name, name.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return "BENCHMARK_" + name;
}

}  // namespace

void take_benchmark_flags(std::vector<std::string>& arguments, BenchFlags& flags) {
  const std::string start = "--benchmark_";
  std::vector<std::string> rest;
  std::set<std::string> given;
  for (const std::string& argument : arguments) {
    if (!argument.starts_with(start)) {
      rest.push_back(argument);
      continue;
    }
    const size_t equals = argument.find('=');
    const std::string flag = argument.substr(0, equals);
    const std::string name = flag.substr(start.size());
    if (std::ranges::find(kOfNoEffect, name) != kOfNoEffect.end()) {
      std::cerr << flag << " is of no effect here; --help lists the flags that are\n";
      continue;
    }
    const auto take = taken().find(name);
    if (take == taken().end()) {
      throw InputError(flag, "a flag of Google Benchmark that is of effect here (--help)", "another");
    }
    const bool alone = equals == std::string::npos;
    if (alone && name != "list_tests" && name != "enable_random_interleaving") {
      throw InputError(flag, "a value, as " + flag + "=VALUE", "none");
    }
    take->second(flags, alone ? "true" : argument.substr(equals + 1), flag);
    given.insert(name);
  }
  for (const auto& [name, take] : taken()) {
    const std::string variable = in_environment(name);
    const char* value = given.contains(name) ? nullptr : std::getenv(variable.c_str());
    if (value != nullptr) take(flags, value, variable);
  }
  arguments = rest;
}

void add_bench_flags(CLI::App& app, BenchFlags& flags, const std::string& item) {
  add_selection(app, flags.selection);
  app.add_option("--backend", flags.backends, "onednn, cuda, reference; several with commas")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--threads", flags.threads,
                 "Threads that compute; by default every processor that the process may use")
      ->check(CLI::Range(1, 4096));
  app.add_option("--verify", flags.verify,
                 "Check outputs against float64 before timing: sampled elements, full, or off")
      ->check(CLI::IsMember({"sampled", "full", "off"}))
      ->capture_default_str();
  app.add_option("--max_memory", flags.max_memory,
                 "Skip each " + item + " that needs more, such as 8GiB; by default nine tenths of what is available");
  app.add_option("--seed", flags.seed, "Seed of data and parameters")->check(whole_number())->capture_default_str();
  app.add_flag("--dry_run", flags.dry_run,
               "List each " + item + " with its memory and a guess of the time; measure nothing");
  app.add_flag("--resume", flags.resume, "Go on with the run whose journal lies beside --benchmark_out");
  app.footer("Google Benchmark's flags work on the names of each " + item +
             ": --benchmark_filter=REGEX, --benchmark_list_tests,\n"
             "--benchmark_repetitions=N, --benchmark_out=FILE (journal beside it while running), "
             "--benchmark_context=KEY=VALUE,\n"
             "--benchmark_format=console|json, --benchmark_enable_random_interleaving.\n"
             "Exit codes: 0 done, 1 a row failed, 2 bad input or nothing can run, 130 or 143 interrupted.");
}

MeasureOptions measure_options(const BenchFlags& flags) {
  MeasureOptions options;
  options.threads = flags.threads;
  options.verify = flags.verify == "off"    ? VerifyMode::kOff
                   : flags.verify == "full" ? VerifyMode::kFull
                                            : VerifyMode::kSampled;
  options.seed = flags.seed;
  options.max_memory_bytes = memory_to_use(flags.max_memory);
  // Below 6 there is no interval, and one may correlate with the next; of 7 they often do by chance.
  options.sampling.min_samples = 7;
  options.sampling.more_samples = 7;
  options.sampling.min_layered_samples = 7;
  return options;
}

std::vector<int> filtered(const std::vector<std::vector<std::string>>& names, std::string filter,
                          const std::string& item) {
  constexpr size_t kLongest = 1000;  // std::regex recurses, and must not use up the stack
  if (filter.size() > kLongest) {
    throw InputError("--benchmark_filter", "at most 1000 characters", std::to_string(filter.size()));
  }
  const std::string asked = filter;
  const bool exclude = filter.starts_with('-');
  if (exclude) filter.erase(0, 1);
  if (filter.empty() || filter == "all") filter = ".";
  std::vector<int> kept;
  try {
    const std::regex pattern(filter, std::regex::extended);
    const auto matches = [&](const std::string& name) { return std::regex_search(name, pattern); };
    for (size_t i = 0; i < names.size(); ++i) {
      if (std::ranges::any_of(names[i], matches) != exclude) kept.push_back(static_cast<int>(i));
    }
  } catch (const std::regex_error& error) {
    throw InputError("--benchmark_filter", "a regular expression", "'" + filter + "' (" + error.what() + ")");
  }
  if (kept.empty()) throw InputError("--benchmark_filter", "a pattern that matches a " + item, "'" + asked + "'");
  return kept;
}

}  // namespace triphase
