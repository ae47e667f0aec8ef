// SPDX-License-Identifier: Apache-2.0
#include "kernel_run.h"

#include <algorithm>
#include <iostream>

#include "bin/signals.h"
#include "report/ceilings_file.h"
#include "report/format.h"

namespace triphase {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kSetupGuessS = 0.03;      // of a kernel
constexpr int64_t kVerifyReads = 400'000;  // of each output: milliseconds, for runs that come over and over

// The memory's bandwidth by what triphase_ceilings knows of this machine or by a quick look, whichever is higher: where
// others use the memory as well, neither alone is what it can do. Null where neither is to be had.
Json memory_bandwidth(Backend& backend, int host_threads, std::vector<std::string>& notes) {
  const int threads = backend.computing_threads(host_threads);
  Json best;
  const auto offer = [&](double bytes_per_s, const char* by) {
    if (best.is_null() || bytes_per_s > best["bytes_per_s"].get<double>()) {
      best = {{"bytes_per_s", bytes_per_s}, {"measured_by", by}};
    }
  };
  try {
    if (const auto look = backend.memory_bytes_per_s(threads)) offer(*look, "a quick look");
  } catch (const std::exception& error) {  // then what is known has to do
    notes.push_back(std::string("a quick look at the memory's bandwidth failed: ") + error.what());
  }
  const auto known = read_ceilings(ceilings_path(machine_fingerprint(backend), backend.name(), threads));
  if (!known) return best;
  for (const Ceiling& ceiling : known->ceilings) {
    if (ceiling.level == "memory" && !ceiling.latency && ceiling.threads == threads) {
      offer(ceiling.value, "triphase_ceilings");
    }
  }
  return best;
}

// Each goes by the names of all that use it, too.
std::vector<BenchItem> items(const std::vector<KernelCase>& kernels, double time_per_kernel_s) {
  std::vector<BenchItem> all;
  for (const KernelCase& item : kernels) {
    std::vector<std::string> names = item.used_by;
    names.push_back(item.id.name());
    all.push_back({std::move(names), item.id.name(), time_per_kernel_s + kSetupGuessS, item.cannot_run});
  }
  return all;
}

}  // namespace

void add_flags(CLI::App& app, KernelFlags& flags) {
  add_bench_flags(app, flags, "kernel");
  app.add_option("--cache", flags.caches,
                 "hot: runs back to back; cold: operands pushed out of every cache before each run")
      ->delimiter(',')
      ->check(CLI::IsMember({"hot", "cold"}))
      ->capture_default_str();
  app.add_option("--time_per_kernel", flags.time_per_kernel_s,
                 "Seconds of running a kernel, all cache states together, beyond which only what is missing of seven "
                 "samples is run")
      ->check(number_between(0.0001, 1e6))
      ->capture_default_str();
}

KernelRun::KernelRun(const KernelFlags& flags, std::vector<KernelCase> kernels)
    : BenchRun("triphase_kernels", "kernel", flags, items(kernels, flags.time_per_kernel_s)),
      flags_(flags),
      kernels_(std::move(kernels)) {
  for (const Cache cache : {Cache::kHot, Cache::kCold}) {
    if (std::ranges::find(flags_.caches, to_string(cache)) != flags_.caches.end()) caches_.push_back(cache);
  }
  options_.verify_reads = kVerifyReads;
  options_.sampling.budget_s = flags_.time_per_kernel_s / static_cast<double>(caches_.size());
  options_.sampling.minimum_s = options_.sampling.budget_s / 2;
}

KernelRun::Json KernelRun::settings() const {
  const Selection& what = flags_.selection;
  const CaseSpec of_models;
  const auto or_usual = [&](const std::vector<std::string>& given, const std::string& usual) {
    return given.empty() && what.suite.empty() ? std::vector<std::string>{usual} : given;
  };
  return {{"suite", what.suite},  // where a kernel is used depends on what was chosen
          {"model", what.models},
          {"batch", what.batch.value_or(what.suite.empty() ? std::to_string(of_models.batch) : "")},
          {"optimizer", or_usual(what.optimizers, of_models.optimizer)},
          {"dtype", or_usual(what.dtypes, of_models.dtype)},
          {"loss_scale", what.loss_scale.value_or(usual_loss_scale(Precision::kF16))},
          {"threads", flags_.threads},
          {"verify", flags_.verify},
          {"seed", flags_.seed},
          {"cache", flags_.caches},
          {"time_per_kernel", flags_.time_per_kernel_s}};
}

std::vector<std::string> KernelRun::start() {
  std::vector<std::string> notes;
  for (const std::string& name : flags_.backends) {
    auto backend = make_backend(name);
    auto* made = std::get_if<std::unique_ptr<Backend>>(&backend);
    if (made == nullptr || std::ranges::find(caches_, Cache::kCold) == caches_.end()) continue;
    if (const Json found = memory_bandwidth(**made, flags_.threads, notes); !found.is_null()) memory_[name] = found;
  }
  return notes;
}

KernelRun::Rows KernelRun::skipped_rows(int index, const Repetition& repetition, const std::string& reason) const {
  std::vector<KernelMeasurement> all;
  for (const Cache cache : caches_) all.push_back({cache, 1, skipped(reason)});
  return rows_of(kernels_[static_cast<size_t>(index)], repetition, all);
}

KernelRun::Rows KernelRun::rows_of(const KernelCase& item, const Repetition& repetition,
                                   const std::vector<KernelMeasurement>& measured) const {
  std::optional<double> memory_bytes_per_s;
  if (const auto found = memory_.find(item.id.backend); found != memory_.end()) {
    memory_bytes_per_s = (*found)["bytes_per_s"].get<double>();
  }
  return rows(item.id, repetition, *item.kernel, item.used_by, measured, memory_bytes_per_s);
}

std::variant<PreparedKernel*, Unsupported> KernelRun::prepared(int index, const StageProgress& progress) {
  if (const auto found = prepared_.find(index); found != prepared_.end()) return &found->second;
  const KernelCase& item = kernels_[static_cast<size_t>(index)];
  const auto made_backend = make_backend(item.id.backend);
  if (const auto* why = std::get_if<Unsupported>(&made_backend)) return *why;
  Backend& backend = *std::get<std::unique_ptr<Backend>>(made_backend);
  const auto make = [&] {
    int64_t held_bytes = 0;
    for (const auto& [other, kernel] : prepared_) held_bytes += kernel.setup.memory.peak_bytes();
    MeasureOptions options = options_;
    options.max_memory_bytes = memory_to_use(flags_.max_memory, backend, options_.max_memory_bytes - held_bytes);
    return prepare(*item.kernel, backend, options, progress);
  };
  PreparedKernel made = make();
  if (made.setup.status == Status::kSkipped && !made.plan && !prepared_.empty() && stop_signal() == 0) {
    prepared_.clear();  // for want of memory, maybe
    made = make();
  }
  return &prepared_.emplace(index, std::move(made)).first->second;
}

std::variant<KernelRun::Rows, Unsupported> KernelRun::measured(int index, const Repetition& repetition,
                                                               const StageProgress& watch) {
  const KernelCase& item = kernels_[static_cast<size_t>(index)];
  const auto kernel = prepared(index, watch);
  if (const auto* why = std::get_if<Unsupported>(&kernel)) return *why;
  PreparedKernel& ready = *std::get<PreparedKernel*>(kernel);
  Rows found = rows_of(item, repetition, measure(*item.kernel, ready, options_, caches_, watch));
  if (repetition.index + 1 == repetition.count) prepared_.erase(index);
  return found;
}

std::string KernelRun::outcome(const Rows& rows) const {
  std::string text;
  for (const Json& row : rows) {
    text += (text.empty() ? "" : ", ") + row["cache"].get<std::string>() + " " +
            (row.contains("median_s") ? duration(row["median_s"].get<double>())
                                      : row["status"].get<std::string>() + ": " + row.value("reason", ""));
  }
  return text;
}

DryRun KernelRun::dry_run(const std::vector<int>& indices) const {
  DryRun run({"kernel", "used"}, "kernels", flags_);
  for (const int i : indices) {
    const KernelCase& item = kernels_[static_cast<size_t>(i)];
    run.add({item.id.name(), std::to_string(item.used_by.size())}, item.kernel->program, item.id.backend,
            item.cannot_run, expected_s(i));
  }
  return run;
}

void KernelRun::print(const std::vector<Done>& all) const {
  Table table({"kernel", "phase", "cache", "used", "time", "FLOP/s", "operands B/s", "implementation"});
  std::string problems;
  size_t warm = 0;
  Disturbed disturbed;
  for (const Done& done : all) {
    const KernelId& id = kernels_[static_cast<size_t>(done.index)].id;
    for (const Json& row : done.rows) {
      if (!row.contains("median_s")) {
        problems += row["status"].get<std::string>() + ": " + row["name"].get<std::string>() + ": " +
                    row.value("reason", "") + "\n";
        continue;
      }
      const double s = row["median_s"].get<double>();
      warm += !row.value("proven_cold", true);
      table.add({id.kernel + (flags_.backends.size() > 1 ? ", " + id.backend : ""), id.phase, row["cache"],
                 std::to_string(row["multiplicity"].get<size_t>()), duration(s) + disturbed.mark(row),
                 row["flop"] == 0 ? "-" : si(row["flop"].get<double>() / s), si(row["operand_bytes"].get<double>() / s),
                 row.value("implementation", "")});
    }
  }
  std::cout << "\n" << table.text();
  if (warm > 0) {
    std::cout << "\n"
              << warm << " cold rows fetched their operands faster than the memory is known to give them: "
              << "they were not cold, or the memory was faster than when it was measured.\n";
  }
  if (!problems.empty()) std::cout << "\n" << problems;
  std::cout << disturbed.text("rows");
}

}  // namespace triphase
