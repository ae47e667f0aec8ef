// SPDX-License-Identifier: Apache-2.0
#include "bench_flags.h"

#include <algorithm>
#include <charconv>
#include <regex>
#include <sstream>

#include "report/environment.h"
#include "report/format.h"

namespace triphase {

void take_benchmark_flags(std::vector<std::string>& arguments, BenchFlags& flags) {
  std::vector<std::string> rest;
  for (const std::string& argument : arguments) {
    const auto value_of = [&](const std::string& flag) -> const char* {
      return argument.starts_with(flag + "=") ? argument.c_str() + flag.size() + 1 : nullptr;
    };
    if (const char* out = value_of("--benchmark_out")) {
      flags.out = out;
    } else if (const char* out_format = value_of("--benchmark_out_format")) {
      if (std::string(out_format) != "json") throw InputError("--benchmark_out_format", "json", out_format);
    } else if (const char* format = value_of("--benchmark_format")) {
      flags.format = format;
      if (flags.format != "console" && flags.format != "json") {
        throw InputError("--benchmark_format", "console or json", "'" + flags.format + "'");
      }
    } else if (const char* context = value_of("--benchmark_context")) {
      std::istringstream list(context);
      for (std::string item; std::getline(list, item, ',');) {
        if (item.find('=') == std::string::npos || item.starts_with('=')) {
          throw InputError("--benchmark_context", "key=value[,key=value...]", "'" + item + "'");
        }
        const std::string key = item.substr(0, item.find('='));
        for (const std::string& other : flags.context) {
          if (other.starts_with(key + "=")) throw InputError("--benchmark_context", "each key once", key + " twice");
        }
        flags.context.push_back(item);
      }
    } else {
      rest.push_back(argument);
    }
  }
  arguments = rest;
}

BenchmarkFlags read_benchmark_flags(const std::vector<std::string>& arguments) {
  BenchmarkFlags flags;
  for (const std::string& argument : arguments) {
    const auto value = [&](const std::string& flag) { return argument.substr(flag.size() + 1); };
    if (argument.starts_with("--benchmark_filter=")) flags.filter = value("--benchmark_filter");
    if (argument.starts_with("--benchmark_list_tests")) flags.list = argument != "--benchmark_list_tests=false";
    if (!argument.starts_with("--benchmark_repetitions=")) continue;
    const std::vector<int64_t> parsed = parse_range(value("--benchmark_repetitions"), "--benchmark_repetitions");
    if (parsed.size() != 1 || parsed[0] < 1 || parsed[0] > 10'000) {
      throw InputError("--benchmark_repetitions", "an integer from 1 to 10000",
                       "'" + value("--benchmark_repetitions") + "'");
    }
    flags.repetitions = static_cast<int>(parsed[0]);
  }
  return flags;
}

void add_bench_flags(CLI::App& app, BenchFlags& flags, const std::string& item) {
  Selection& what = flags.selection;
  app.add_option("--suite", what.suite,
                 "A suite of benchmarks/suites (quick, full, smoke, kernels, gpu) or a .json file");
  app.add_option("--model", what.models,
                 "A model of benchmarks/models, such as DeeperConvNet:depth=10, or a .json file; may be repeated");
  app.add_option(
      "--batch", what.batch,
      "Examples a step: 1,2,4 or 1:1024:*2 or 10:50:+10; in place of a suite's own, 1 of --model if not given");
  app.add_option("--backend", what.backends, "onednn, cuda, reference; several with commas")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--dtype", what.dtypes,
                 "What to compute in: f32, tf32, bf16 or f16, several with commas; in place of a suite's own, f32 of "
                 "--model if not given")
      ->delimiter(',');
  add_loss_scale(app, what.loss_scale);
  app.add_option("--optimizer", what.optimizers,
                 "sgd, momentum, nesterov, adagrad, rmsprop, adam, adamw; several with commas; in place of a suite's "
                 "own, sgd of --model if not given")
      ->delimiter(',');
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

CLI::Validator whole_number() {
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

CLI::Validator number_between(double least, double most) {
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

MeasureOptions measure_options(const BenchFlags& flags) {
  MeasureOptions options;
  options.threads = flags.threads;
  options.verify = flags.verify == "off"    ? VerifyMode::kOff
                   : flags.verify == "full" ? VerifyMode::kFull
                                            : VerifyMode::kSampled;
  options.seed = flags.seed;
  options.max_memory_bytes = memory_to_use(flags.max_memory);
  options.sampling.min_samples = 7;  // below 6 there is no interval, and one may correlate with the next
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
