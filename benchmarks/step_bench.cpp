// SPDX-License-Identifier: Apache-2.0
// triphase_steps: times whole training steps, phase by phase. Google Benchmark selects and repeats the cases, one
// registered benchmark each, and its flags work on case names. What it would lose this file keeps: it sums manual
// times, writes one run a benchmark, truncates its output on opening and can print bare NaN, so samples, rows and
// --benchmark_out are handled here, in its own schema.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <ctime>
#include <iostream>
#include <map>
#include <optional>
#include <regex>
#include <sstream>

#include "bin/cli.h"
#include "cases.h"
#include "measure/summary.h"
#include "report/environment.h"
#include "report/format.h"
#include "report/journal.h"
#include "report/progress.h"
#include "stats/order.h"

namespace triphase {
namespace {

using Json = nlohmann::ordered_json;

std::atomic<int> g_signal = 0;  // the one global: a signal handler has no other way in

extern "C" void on_signal(int number) { g_signal = number; }

struct Flags {
  Selection selection;
  int threads = 0;
  std::string verify = "sampled";
  std::string max_memory;
  double time_per_case_s = 5;
  double precision = 0.01;
  uint64_t seed = 1;
  bool dry_run = false;
  bool resume = false;
  // Google Benchmark's, taken from it.
  std::string out;
  std::string format = "console";
  std::vector<std::string> context;
};

int64_t parse_bytes(const std::string& text) {
  constexpr size_t kLongest = 40;  // std::regex recurses by character
  static const std::regex form("([0-9]+(?:\\.[0-9]+)?)\\s*(|B|k|M|G|T|kB|MB|GB|TB|KiB|MiB|GiB|TiB)");
  std::smatch match;
  static const std::map<std::string, double> units = {{"", 1},
                                                      {"B", 1},
                                                      {"k", 1e3},
                                                      {"M", 1e6},
                                                      {"G", 1e9},
                                                      {"T", 1e12},
                                                      {"kB", 1e3},
                                                      {"MB", 1e6},
                                                      {"GB", 1e9},
                                                      {"TB", 1e12},
                                                      {"KiB", 1024.0},
                                                      {"MiB", 1048576.0},
                                                      {"GiB", 1073741824.0},
                                                      {"TiB", 1099511627776.0}};
  if (text.size() > kLongest || !std::regex_match(text, match, form))
    throw InputError("--max_memory", "a size such as 8GiB or 500MB", "'" + text + "'");
  const double value = std::stod(match[1]) * units.at(match[2]);
  if (!(value >= 1 && value < 9e18)) throw InputError("--max_memory", "a size from 1 byte to 9 EB", "'" + text + "'");
  return static_cast<int64_t>(value);
}

// Splits off the flags of Google Benchmark that this program answers itself; the others stay in `rest`.
Flags take_benchmark_flags(std::vector<std::string>& arguments) {
  Flags flags;
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
        flags.context.push_back(item);
      }
    } else {
      rest.push_back(argument);
    }
  }
  arguments = rest;
  return flags;
}

VerifyMode verify_mode(const std::string& name) {
  return name == "off" ? VerifyMode::kOff : name == "full" ? VerifyMode::kFull : VerifyMode::kSampled;
}

std::string iso_time() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  char text[64];
  std::strftime(text, sizeof text, "%FT%T%z", &local);
  std::string iso = text;
  return iso.insert(iso.size() - 2, ":");
}

// Google Benchmark asks for a reporter; rows go their own way, so that this one is silent.
class SilentReporter : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>&) override {}
};

class Run {
 public:
  Run(Flags flags, std::vector<Case> cases)
      : flags_(std::move(flags)),
        cases_(std::move(cases)),
        environment_(environment()),
        progress_(static_cast<int>(cases_.size()), 0) {
    options_.threads = flags_.threads;
    options_.verify = verify_mode(flags_.verify);
    options_.seed = flags_.seed;
    options_.sampling.budget_s = flags_.time_per_case_s;
    options_.sampling.relative_half_width = flags_.precision;
    options_.max_memory_bytes =
        flags_.max_memory.empty() ? available_memory_bytes() / 10 * 9 : parse_bytes(flags_.max_memory);
  }

  // Opens the journal and registers the cases.
  void start() {
    journal_.emplace(flags_.out, what_results_depend_on(), flags_.resume);
    register_cases();
  }

  // Those that --benchmark_filter keeps, in order; set before the run.
  void select(const std::vector<int>& indices, int repetitions) {
    selected_ = indices;
    repetitions_ = repetitions;
    double expected_s = 0;
    for (const int i : indices) expected_s += cases_[static_cast<size_t>(i)].expected_s * repetitions;
    progress_ = ProgressLine(static_cast<int>(indices.size()) * repetitions, expected_s);
  }

  const std::vector<Case>& cases() const { return cases_; }

  void dry_run() const;
  // Rows for what the run never came to; then the file and the table. Gives the exit code.
  int finish();

 private:
  struct Done {
    int index;
    int repetition;
    Journal::Rows rows;
  };

  Json what_results_depend_on() const {
    return {{"environment", environment_["fingerprint"]},
            {"threads", flags_.threads},
            {"verify", flags_.verify},
            {"seed", flags_.seed},
            {"time_per_case", flags_.time_per_case_s},
            {"precision", flags_.precision}};
  }

  void register_cases() {
    for (const int i : selected_) {
      benchmark::RegisterBenchmark(cases_[static_cast<size_t>(i)].id.name().c_str(),
                                   [this, i](benchmark::State& state) {
                                     const double median_s = run_case(i);
                                     for (auto _ : state) state.SetIterationTime(median_s);
                                   })
          ->Iterations(1)
          ->UseManualTime();
    }
  }

  double run_case(int index);
  Json document() const;
  void print_table() const;
  static std::string outcome(const Journal::Rows& rows);

  Flags flags_;
  std::vector<Case> cases_;
  Json environment_;
  std::optional<Journal> journal_;  // from start() on
  ProgressLine progress_;
  MeasureOptions options_;
  std::vector<int> selected_;
  int repetitions_ = 1;
  std::map<int, int> repetitions_done_;
  std::vector<Done> done_;
  double expected_before_s_ = 0;
};

const Json& step_row(const Journal::Rows& rows) {
  for (const Json& row : rows) {
    if (row["phase"] == "step") return row;
  }
  return rows.front();
}

std::string Run::outcome(const Journal::Rows& rows) {
  const Json& step = step_row(rows);
  if (!step.contains("median_s")) return step.value("status", "") + ": " + step.value("reason", "");
  std::string text = duration(step["median_s"].get<double>()) + " a step";
  if (step.contains("ratio_time")) text += ", backward/forward " + fixed(step["ratio_time"].get<double>(), 2);
  return text;
}

double Run::run_case(int index) {
  const Case& item = cases_[static_cast<size_t>(index)];
  const std::string name = item.id.name();
  const int repetition = repetitions_done_[index]++;
  const auto position = static_cast<int>(done_.size());
  Done done{index, repetition, {}};
  bool measured = false;
  const std::string key = name + "/network:" + std::to_string(item.network);  // a file may change between runs
  if (const Journal::Rows* earlier = journal_->find(key, repetition)) {
    done.rows = *earlier;
  } else {
    Measurement result;
    if (g_signal != 0) {
      result = skipped("interrupted before it was measured");
    } else if (!item.cannot_run.empty()) {
      result = skipped(item.cannot_run);
    } else {
      auto backend = make_backend(item.id.backend);
      result = measure(*item.program, *std::get<std::unique_ptr<Backend>>(backend), options_,
                       [&](std::string_view stage, const Samples* so_far) {
                         const double share = so_far ? so_far->measured_s / options_.sampling.budget_s : 0;
                         progress_.show(position, name, std::string(stage), std::min(share, 1.0), expected_before_s_,
                                        item.expected_s);
                         return g_signal == 0;
                       });
      measured = g_signal == 0;
    }
    done.rows = rows(item.id, {repetition, repetitions_}, *item.program, result);
  }
  expected_before_s_ += item.expected_s;
  if (measured) journal_->append(key, repetition, done.rows);
  progress_.finish(position, name, outcome(done.rows), !step_row(done.rows).contains("error_occurred"));
  const Json& step = step_row(done.rows);
  const double median_s = step.value("median_s", 0.0);
  done_.push_back(std::move(done));
  return median_s;
}

void Run::dry_run() const {
  Table table({"case", "status", "memory", "time about"});
  double total_s = 0;
  int runnable = 0;
  for (const int i : selected_) {
    const Case& item = cases_[static_cast<size_t>(i)];
    std::string status = item.cannot_run.empty() ? "runs" : "skipped: " + item.cannot_run;
    int64_t needed = logical_memory(*item.program).total;
    if (item.cannot_run.empty()) {
      auto shortage = memory_shortage(needed, options_.max_memory_bytes);
      if (!shortage) {
        auto backend = make_backend(item.id.backend);
        auto plan = std::get<std::unique_ptr<Backend>>(backend)->compile(*item.program, {options_.threads});
        if (const auto* why = std::get_if<Unsupported>(&plan)) {
          status = "skipped: " + why->reason;
        } else {
          const MemoryPlan memory = std::get<std::unique_ptr<Plan>>(plan)->memory_plan();
          needed = memory.peak_bytes();
          shortage = memory_shortage(memory, options_.max_memory_bytes);
        }
      }
      if (shortage) status = "skipped: " + *shortage;
    }
    const bool runs = status == "runs";
    runnable += runs;
    const double expected_s = runs ? item.expected_s * repetitions_ : 0;
    total_s += expected_s;
    table.add({item.id.name(), status, si(static_cast<double>(needed)) + "B", duration(expected_s)});
  }
  std::cout << table.text() << "\n"
            << runnable << " of " << selected_.size() << " cases would run, in about " << duration(total_s)
            << " on an ordinary machine; memory that may be used: "
            << si(static_cast<double>(options_.max_memory_bytes)) << "B\n";
}

Json Run::document() const {
  const benchmark::CPUInfo& cpu = benchmark::CPUInfo::Get();
  Json caches = Json::array();
  for (const auto& cache : cpu.caches) {
    caches.push_back(
        {{"type", cache.type}, {"level", cache.level}, {"size", cache.size}, {"num_sharing", cache.num_sharing}});
  }
  Json versions = {{"triphase", TRIPHASE_VERSION}};
  std::string isa = "reference";
  for (const std::string& name : flags_.selection.backends) {
    auto backend = make_backend(name);
    if (const auto* made = std::get_if<std::unique_ptr<Backend>>(&backend)) {
      for (const auto& [key, value] : (*made)->versions()) versions[key] = value;
      if (versions.contains("onednn_isa")) isa = versions["onednn_isa"].get<std::string>();
    }
  }
  Json context = {{"date", iso_time()},
                  {"host_name", benchmark::SystemInfo::Get().name},
                  {"executable", "triphase_steps"},
                  {"num_cpus", cpu.num_cpus},
                  {"mhz_per_cpu", static_cast<int64_t>(cpu.cycles_per_second / 1e6)},
                  {"cpu_scaling_enabled", cpu.scaling == benchmark::CPUInfo::Scaling::ENABLED},
                  {"caches", caches},
                  {"load_avg", cpu.load_avg},
                  {"library_build_type", std::string(TRIPHASE_BUILD_TYPE) == "debug" ? "debug" : "release"},
                  {"json_schema_version", 1}};
  for (const std::string& item : flags_.context) {
    const size_t equals = item.find('=');
    const std::string key = item.substr(0, equals);
    if (!context.contains(key)) context[key] = item.substr(equals + 1);
  }
  context["triphase"] = {{"schema", 1},
                         {"versions", versions},
                         {"isa", isa},
                         {"threads", flags_.threads},
                         {"affinity", affinity()},
                         {"environment", environment_},
                         {"ceilings", Json::object()},
                         {"settings", what_results_depend_on()}};
  Json benchmarks = Json::array();
  int family = 0;
  for (const Done& done : done_) {
    for (const Json& row : done.rows) {
      benchmarks.push_back(row);
      benchmarks.back()["family_index"] = family++;
      benchmarks.back()["per_family_instance_index"] = 0;
    }
  }
  return {{"context", context}, {"benchmarks", benchmarks}};
}

void Run::print_table() const {
  const bool backends = flags_.selection.backends.size() > 1;
  Table table({"model", "batch", backends ? "optimizer, backend" : "optimizer", "step", "forward", "backward", "update",
               "bwd/fwd FLOP", "time", "with update: FLOP", "time"});
  std::string problems;
  std::vector<double> switches_per_s;
  for (const Done& done : done_) {
    const Json& step = step_row(done.rows);
    if (!step.contains("median_s")) {
      problems += step.value("status", "") + ": " + cases_[static_cast<size_t>(done.index)].id.name() + ": " +
                  step.value("reason", "") + "\n";
      continue;
    }
    switches_per_s.push_back(step.value("involuntary_switches_per_s", 0.0));
    const auto time_of = [&](const std::string& phase) -> std::string {
      for (const Json& row : done.rows) {
        if (row["phase"] == phase && !row.contains("layer")) return duration(row["median_s"].get<double>());
      }
      return "";
    };
    const auto number = [&](const char* key) {
      return step.contains(key) ? fixed(step[key].get<double>(), 2) : std::string("-");
    };
    const CaseId& id = cases_[static_cast<size_t>(done.index)].id;
    table.add({id.model, std::to_string(id.batch), backends ? id.optimizer + ", " + id.backend : id.optimizer,
               time_of("step"), time_of("forward"), time_of("backward"), time_of("update"), number("ratio_flop"),
               number("ratio_time"), number("ratio_flop_with_update"), number("ratio_time_with_update")});
  }
  std::cout << "\n" << table.text();
  if (!problems.empty()) std::cout << "\n" << problems;
  constexpr double kBusy = 20;
  if (const auto switches = median(switches_per_s); switches && *switches > kBusy) {
    std::cout << "\nThe machine was busy: other programs took a processor away " << fixed(*switches, 0)
              << " times a second. Times are not to be trusted; run again when it is idle.\n";
  }
}

int Run::finish() {
  std::map<std::pair<int, int>, bool> have;
  for (const Done& done : done_) have[{done.index, done.repetition}] = true;
  for (const int i : selected_) {
    for (int r = 0; r < repetitions_; ++r) {
      if (have.contains({i, r})) continue;
      const Case& item = cases_[static_cast<size_t>(i)];
      done_.push_back(
          {i, r, rows(item.id, {r, repetitions_}, *item.program, skipped("interrupted before it was measured"))});
    }
  }
  bool failed = false;
  bool ran = false;
  for (const Done& done : done_) {
    const std::string status = step_row(done.rows)["status"].get<std::string>();
    failed = failed || status == "failed";
    ran = ran || status != "skipped";
  }
  const Json result = document();
  if (!flags_.out.empty()) write_atomically(flags_.out, result.dump(1) + "\n");
  if (flags_.format == "json") {
    std::cout << result.dump(1) << "\n";
  } else {
    print_table();
    if (!flags_.out.empty()) std::cout << "\nresults: " << flags_.out << "\n";
  }
  std::cout.flush();
  if (g_signal != 0) {
    if (!journal_->path().empty()) progress_.note("interrupted; what was measured is kept, --resume goes on from it");
    return 128 + g_signal;
  }
  journal_->discard();
  if (!ran) {
    progress_.note("triphase_steps: nothing of what was asked could run here");
    return kExitBadInput;
  }
  return failed ? kExitFailed : 0;
}

void add_flags(CLI::App& app, Flags& flags) {
  Selection& what = flags.selection;
  app.add_option("--suite", what.suite, "A suite of benchmarks/suites (quick, full, smoke) or a .json file");
  app.add_option("--model", what.models,
                 "A model of benchmarks/models, such as DeeperConvNet:depth=10, or a .json file; may be repeated");
  app.add_option("--batch", what.batch, "Examples a step, for --model: 1,2,4 or 1:1024:*2 or 10:50:+10")
      ->capture_default_str();
  app.add_option("--backend", what.backends, "onednn, cuda, reference; several with commas")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--dtype", what.dtypes, "Element types, for --model: f32")->delimiter(',')->capture_default_str();
  app.add_option("--optimizer", what.optimizers,
                 "For --model: sgd, momentum, nesterov, adagrad, rmsprop, adam, adamw; several with commas")
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
                 "Skip cases that need more, such as 8GiB; by default nine tenths of what is available");
  app.add_option("--time_per_case", flags.time_per_case_s, "Seconds of stepping a case at most, while enough steps fit")
      ->check(CLI::Range(0.001, 1e6))
      ->capture_default_str();
  app.add_option("--precision", flags.precision,
                 "Stop earlier once the 95 % intervals of the medians are within this fraction on either side")
      ->check(CLI::Range(0.0001, 1.0))
      ->capture_default_str();
  app.add_option("--seed", flags.seed, "Seed of data and parameters")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_flag("--dry_run", flags.dry_run, "List the cases with their memory and a guess of the time; measure nothing");
  app.add_flag("--resume", flags.resume, "Go on with the run whose journal lies beside --benchmark_out");
  app.footer(
      "Google Benchmark's flags work on case names: --benchmark_filter=REGEX, --benchmark_list_tests,\n"
      "--benchmark_repetitions=N, --benchmark_out=FILE (journal beside it while running), "
      "--benchmark_context=KEY=VALUE,\n"
      "--benchmark_format=console|json, --benchmark_enable_random_interleaving.\n"
      "Exit codes: 0 done, 1 a row failed, 2 bad input or nothing can run, 130 or 143 interrupted.");
}

// The indices of the cases that a filter keeps, as Google Benchmark reads it: a leading - excludes.
std::vector<int> filtered(const std::vector<Case>& cases, std::string filter) {
  const bool exclude = filter.starts_with('-');
  if (exclude) filter.erase(0, 1);
  if (filter.empty() || filter == "all") filter = ".";
  std::vector<int> kept;
  try {
    const std::regex pattern(filter, std::regex::extended);
    for (size_t i = 0; i < cases.size(); ++i) {
      if (std::regex_search(cases[i].id.name(), pattern) != exclude) kept.push_back(static_cast<int>(i));
    }
  } catch (const std::regex_error& error) {
    throw InputError("--benchmark_filter", "a regular expression", "'" + filter + "' (" + error.what() + ")");
  }
  return kept;
}

struct BenchmarkFlags {
  std::string filter = ".";
  int repetitions = 1;
  bool list = false;
};

// What of Google Benchmark's own flags this program must know as well.
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

int run(Flags& flags, const BenchmarkFlags& benchmark_flags) {
  if (flags.selection.suite.empty() && flags.selection.models.empty()) {
    throw InputError("triphase_steps", "--suite=NAME or --model=NAME", "neither; --suite=quick is a start");
  }
  if (flags.threads == 0) flags.threads = usable_cpus();
  Run run(flags, select_cases(flags.selection, flags.threads, flags.time_per_case_s));
  const std::vector<int> selected = filtered(run.cases(), benchmark_flags.filter);
  if (selected.empty())
    throw InputError("--benchmark_filter", "a pattern that matches a case", "'" + benchmark_flags.filter + "'");
  run.select(selected, benchmark_flags.repetitions);
  if (benchmark_flags.list) {
    for (const int i : selected) std::cout << run.cases()[static_cast<size_t>(i)].id.name() << "\n";
    return 0;
  }
  if (flags.dry_run) {
    run.dry_run();
    return 0;
  }
  run.start();
  SilentReporter reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter, "all");  // of those registered, which the filter has kept
  return run.finish();
}

}  // namespace
}  // namespace triphase

int main(int argc, char** argv) {
  using namespace triphase;
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = static_cast<int>(SA_RESETHAND);  // a second one ends the process at once
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);

  CLI::App app("Times whole training steps of neural networks, phase by phase and layer by layer.", "triphase_steps");
  return guarded(app, [&] {
    std::vector<std::string> arguments(argv + 1, argv + argc);
    Flags flags = take_benchmark_flags(arguments);
    const BenchmarkFlags benchmark_flags = read_benchmark_flags(arguments);
    add_flags(app, flags);
    std::vector<char*> for_benchmark = {argv[0]};
    std::vector<std::string> own;
    for (std::string& argument : arguments) {
      if (argument.starts_with("--benchmark_")) {
        for_benchmark.push_back(argument.data());
      } else {
        own.push_back(argument);
      }
    }
    std::ranges::reverse(own);  // as CLI11 wants them
    app.parse(own);
    int count = static_cast<int>(for_benchmark.size());
    benchmark::Initialize(&count, for_benchmark.data());
    if (count > 1) throw InputError(for_benchmark[1], "a flag of Google Benchmark with a valid value", "another");
    return run(flags, benchmark_flags);
  });
}
