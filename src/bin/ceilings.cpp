// SPDX-License-Identifier: Apache-2.0
// triphase_ceilings: measures what this machine can do at best, fits the prediction on networks made for it, and keeps
// both in a file that triphase_steps reads. Where there is such a file already, only shows it.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iostream>

#include "bin/cases.h"
#include "bin/cli.h"
#include "bin/signals.h"
#include "core/precision.h"
#include "measure/process_usage.h"
#include "report/ceilings_file.h"
#include "report/environment.h"
#include "report/format.h"
#include "report/journal.h"
#include "report/progress.h"
#include "stats/order.h"

namespace triphase {
namespace {

struct Flags {
  std::string backend = "onednn";
  int threads = 0;
  std::string calibration = "calibration";
  std::vector<std::string> dtypes;
  double time_per_case_s = 0.5;
  double time_per_group_s = 1;
  std::string max_memory;
  std::string out;
  std::string format = "table";
  bool remeasure = false;
  std::string of_measuring;  // a flag that was given and is of no effect where nothing is measured
};

void add_flags(CLI::App& app, Flags& flags) {
  app.add_option("--backend", flags.backend, "The backend whose library and threads measure")->capture_default_str();
  app.add_option(
         "--threads", flags.threads,
         "Threads that compute; by default every processor that the process may use. One thread is measured too. Of no "
         "effect where a device computes")
      ->check(CLI::Range(1, 4096));
  app.add_option("--calibration", flags.calibration,
                 "The suite, or .json file, that the prediction is fitted to; off measures the ceilings alone")
      ->capture_default_str();
  app.add_option("--dtype", flags.dtypes,
                 "What to fit the prediction in: f32, tf32, bf16 or f16, several with commas; in place of the suite's "
                 "own, f32. Each takes a minute, and none but these is predicted")
      ->check(CLI::IsMember(precision_names()))
      ->delimiter(',');
  app.add_option("--time_per_case", flags.time_per_case_s, "Seconds of stepping a calibration case")
      ->check(number_between(0.001, 1e6))
      ->capture_default_str();
  app.add_option("--time_per_group", flags.time_per_group_s,
                 "Seconds for each group of ceilings: arithmetic, latencies, each level of memory")
      ->check(number_between(0.001, 1e6))
      ->capture_default_str();
  app.add_option("--max_memory", flags.max_memory,
                 "Leave out levels of memory and cases that need more, such as 2GiB; by default nine tenths of what is "
                 "available, on the backend's device");
  app.add_option("--out", flags.out, "The file to keep them in; by default one for this machine in ~/.cache/triphase");
  app.add_option("--format", flags.format, "table for people, json for programs")
      ->check(CLI::IsMember({"table", "json"}))
      ->capture_default_str();
  app.add_flag("--remeasure", flags.remeasure, "Measure although there is a file, and replace it");
  app.footer(
      "Takes about two minutes on an idle machine. Exit codes: 0 done, 1 a measurement failed, 2 bad input,\n"
      "130 or 143 interrupted, with nothing written.");
}

constexpr int kPasses = 7;

// Every layer and phase of a case, with what it asked of the machine. Those that take more of their phase weigh more,
// since it is the phases' times that must come right.
void observe(const Measurement& measured, const std::vector<Demand>& all, std::vector<Observation>& observations) {
  std::map<Phase, double> phase_s;
  for (const Samples::Layer& series : measured.samples.layers) phase_s[series.phase] += median(series.s).value_or(0);
  for (const Samples::Layer& series : measured.samples.layers) {
    Observation item;
    for (const Demand& demand : all) {
      if (demand.layer == series.layer && demand.phase == series.phase) item.demands.push_back(demand);
    }
    item.measured_s = median(series.s).value_or(0);
    if (item.measured_s <= 0 || item.demands.empty()) continue;
    item.weight = std::sqrt(item.measured_s / phase_s[series.phase]);
    observations.push_back(std::move(item));
  }
}

CalibrationFit fit_of(const std::vector<Observation>& observations, const Factors& factors, size_t cases) {
  std::vector<double> errors;
  for (const Observation& item : observations) {
    std::vector<const Demand*> parts;
    for (const Demand& demand : item.demands) parts.push_back(&demand);
    if (const auto s = predicted_s(parts, factors)) errors.push_back(std::abs(*s / item.measured_s - 1));
  }
  return {cases, observations.size(), median(errors).value_or(0), quantile(errors, 0.9).value_or(0)};
}

std::vector<Case> calibration_cases(const Flags& flags) {
  if (flags.calibration == "off") return {};
  Selection selection;
  selection.suite = flags.calibration;
  selection.dtypes = flags.dtypes;
  return select_cases(selection, {flags.backend}, flags.threads, flags.time_per_case_s);
}

// Refuses a type of --dtype that the backend does not compute in.
void require_dtypes(const Flags& flags, const std::vector<Case>& cases, Backend& backend) {
  if (!flags.dtypes.empty() && flags.calibration == "off") {
    throw InputError("--dtype", "a calibration to fit in it", "--calibration=off");
  }
  for (const std::string& dtype : flags.dtypes) {
    const auto first = std::ranges::find(cases, dtype, [](const Case& item) { return item.id.dtype; });
    const auto plan = backend.compile(*first->program, {flags.threads});
    if (const auto* why = std::get_if<Unsupported>(&plan)) throw InputError("--dtype", why->reason);
  }
}

int64_t memory_of(const Flags& flags, const Backend& backend) {
  return memory_to_use(flags.max_memory, backend, memory_to_use(flags.max_memory));
}

void calibrate_on(std::vector<Case> cases, const Flags& flags, Backend& backend, KnownMachine& known,
                  ProgressLine& progress) {
  MeasureOptions options;
  options.threads = flags.threads;
  options.verify = VerifyMode::kOff;  // their results are nobody's claim
  options.max_memory_bytes = memory_of(flags, backend);
  options.sampling.budget_s = flags.time_per_case_s;
  options.sampling.relative_half_width = 0.01;
  const std::optional<Gauge> gauge = Gauge::make(backend, flags.threads, memory_of(flags, backend) / kGaugeShare);
  if (gauge) options.gauge = &*gauge;
  std::vector<Observation> observations;
  const size_t count = cases.size();
  size_t measured_cases = 0;
  for (size_t i = 0; i < cases.size(); ++i) {
    const auto fraction = static_cast<double>(i) / static_cast<double>(cases.size());
    progress.show(1, "calibration", cases[i].id.model, fraction, 0, 0);
    const Measurement measured = measure(*cases[i].program, backend, options,
                                         [](std::string_view, const Samples*) { return stop_signal() == 0; });
    heed_signals();
    if (measured.samples.step_s.empty()) continue;  // for want of memory: fewer cases to fit
    if (measured.disturbed && i < count) {
      cases.push_back(cases[i]);  // once more, when the others have had their turn
      continue;
    }
    const auto all = demands(*cases[i].program, measured.groups, measured.extents, known.machine(measured));
    if (!all) continue;
    ++measured_cases;
    observe(measured, *all, observations);
  }
  if (observations.empty()) return;
  known.factors = calibrate(observations);
  known.fit = fit_of(observations, known.factors, measured_cases);
}

KnownMachine measure_machine(const Flags& flags, Backend& backend) {
  const std::vector<Case> cases = calibration_cases(flags);  // what is wrong is refused before the measuring
  require_dtypes(flags, cases, backend);
  ProgressLine progress(2, 0);
  KnownMachine known;
  known.backend = flags.backend;
  known.threads = flags.threads;
  known.fingerprint = machine_fingerprint(backend);
  known.measured_at = iso_time();
  const ProcessUsage usage;
  const int64_t memory = memory_of(flags, backend);
  for (const int threads : flags.threads > 1 ? std::vector{flags.threads, 1} : std::vector{1}) {
    progress.show(0, "ceilings", std::to_string(threads) + " threads", 0, 0, 0);
    const ProbeOptions options{kPasses, flags.time_per_group_s / kPasses};
    const std::vector<Ceiling> some =
        measure_ceilings(backend, threads, memory, options, [] { return stop_signal() == 0; });
    heed_signals();
    known.ceilings.insert(known.ceilings.end(), some.begin(), some.end());
  }
  if (known.ceilings.empty()) {
    throw InputError("--max_memory", "enough for the smallest of the ceilings", std::to_string(memory) + " bytes");
  }
  if (backend.on_host()) known.switches_per_s = usage.switches_per_s();  // else a device's clock has timed it
  progress.finish(0, "ceilings", std::to_string(known.ceilings.size()) + " measured", true);
  if (flags.calibration == "off") return known;
  calibrate_on(cases, flags, backend, known, progress);
  progress.finish(1, "calibration", known.fit ? std::to_string(known.fit->cases) + " cases" : "no ceilings", true);
  return known;
}

int run(Flags& flags) {
  if (flags.threads == 0) flags.threads = usable_cpus();
  auto made = make_backend(flags.backend);
  if (const auto* why = std::get_if<Unsupported>(&made)) throw InputError("--backend", why->reason);
  Backend& backend = *std::get<std::unique_ptr<Backend>>(made);
  if (backend.probes(1).empty()) {
    throw InputError("--backend", "a backend with kernels to measure ceilings with", "'" + flags.backend + "'");
  }
  flags.threads = backend.computing_threads(flags.threads);
  const bool kept = flags.out.empty();
  const std::string path = kept ? ceilings_path(machine_fingerprint(backend), flags.backend, flags.threads) : flags.out;
  std::optional<KnownMachine> known;
  try {
    if (!flags.remeasure) known = read_ceilings(path);
  } catch (const InputError& error) {
    if (!kept) throw;
    std::cerr << "what was kept cannot be read and is measured anew: " << error.what() << "\n";
  }
  const bool measured_now = !known;
  if (known && !flags.of_measuring.empty()) {
    throw InputError(flags.of_measuring, "--remeasure beside it, as ceilings are kept already", path);
  }
  if (!known) {
    if (kept) {
      std::error_code error;
      std::filesystem::create_directories(std::filesystem::path(path).parent_path(), error);
      if (error) throw InputError(path, "cannot make the folder: " + error.message() + " (or name a file with --out)");
    }
    write_atomically(path + ".new", "");  // says now, not in two minutes, that it cannot be written
    std::filesystem::remove(path + ".new");
    known = measure_machine(flags, backend);
    write_atomically(path, to_json(*known).dump(1) + "\n");
  }
  std::cout << (flags.format == "json" ? to_json(*known).dump(1) + "\n" : ceilings_table(*known));
  if (flags.format == "table") {
    std::cout << "\nmeasured " << (measured_now ? "now" : "at " + known->measured_at) << ", kept in " << path
              << (measured_now ? "\n" : "; --remeasure measures anew\n");
  }
  if (!std::cout.flush()) throw InputError("standard output", "a file that can be written", "an error on writing");
  return 0;
}

}  // namespace
}  // namespace triphase

int main(int argc, char** argv) {
  using namespace triphase;
  listen_for_signals();
  CLI::App app("Measures what this machine can do at best, for triphase_steps to set times against.",
               "triphase_ceilings");
  Flags flags;
  add_flags(app, flags);
  return guarded(app, [&] {
    parse_flags(app, argc, argv);
    for (const char* flag : {"--calibration", "--dtype", "--time_per_case", "--time_per_group", "--max_memory"}) {
      if (app.count(flag) > 0) flags.of_measuring = flag;
    }
    return run(flags);
  });
}
