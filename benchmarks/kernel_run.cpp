// SPDX-License-Identifier: Apache-2.0
#include "kernel_run.h"

#include <algorithm>
#include <iostream>

#include "bin/signals.h"
#include "dry_run.h"
#include "report/ceilings_file.h"
#include "report/environment.h"
#include "report/format.h"

namespace triphase {

using Json = nlohmann::ordered_json;

namespace {

constexpr double kSetupGuessS = 0.03;      // of a kernel
constexpr int64_t kVerifyReads = 400'000;  // of each output: milliseconds, for runs that come over and over

// The memory's bandwidth by what triphase_ceilings knows of this machine or by a quick look, whichever is higher: where
// others use the memory as well, neither alone is what it can do. Null where neither is to be had.
Json memory_bandwidth(Backend& backend, int host_threads, ProgressLine& progress) {
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
    progress.note(std::string("a quick look at the memory's bandwidth failed: ") + error.what());
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

KernelRun::KernelRun(KernelFlags flags, std::vector<KernelCase> kernels)
    : flags_(std::move(flags)),
      kernels_(std::move(kernels)),
      environment_(environment()),
      progress_(static_cast<int>(kernels_.size()), 0),
      options_(measure_options(flags_)) {
  for (const Cache cache : {Cache::kHot, Cache::kCold}) {
    if (std::ranges::find(flags_.caches, to_string(cache)) != flags_.caches.end()) caches_.push_back(cache);
  }
  options_.verify_reads = kVerifyReads;
  options_.sampling.budget_s = flags_.time_per_kernel_s / static_cast<double>(caches_.size());
  options_.sampling.minimum_s = options_.sampling.budget_s / 2;
}

Json KernelRun::what_results_depend_on() const {
  const Selection& what = flags_.selection;
  const CaseSpec of_models;
  const auto or_usual = [&](const std::vector<std::string>& given, const std::string& usual) {
    return given.empty() && what.suite.empty() ? std::vector<std::string>{usual} : given;
  };
  return {{"environment", environment_["fingerprint"]},
          {"suite", what.suite},  // where a kernel is used depends on what was chosen
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

std::vector<std::vector<std::string>> KernelRun::names() const {
  std::vector<std::vector<std::string>> all;
  for (const KernelCase& item : kernels_) {
    all.push_back(item.used_by);
    all.back().push_back(item.id.name());
  }
  return all;
}

void KernelRun::select(const std::vector<int>& indices, int repetitions) {
  selected_ = indices;
  repetitions_ = repetitions;
  const int count = static_cast<int>(indices.size()) * repetitions;
  progress_ = ProgressLine(count, count * (flags_.time_per_kernel_s + kSetupGuessS));
}

void KernelRun::start() {
  for (const std::string& name : flags_.backends) {
    auto backend = make_backend(name);
    auto* made = std::get_if<std::unique_ptr<Backend>>(&backend);
    if (made == nullptr || std::ranges::find(caches_, Cache::kCold) == caches_.end()) continue;
    if (const Json found = memory_bandwidth(**made, flags_.threads, progress_); !found.is_null()) memory_[name] = found;
  }
  journal_.emplace(flags_.out, what_results_depend_on(), flags_.resume);
}

std::vector<KernelMeasurement> KernelRun::skipped_all(const std::string& reason) const {
  std::vector<KernelMeasurement> all;
  for (const Cache cache : caches_) all.push_back({cache, 1, skipped(reason)});
  return all;
}

Journal::Rows KernelRun::rows_of(const KernelCase& item, int repetition,
                                 const std::vector<KernelMeasurement>& measured) const {
  std::optional<double> memory_bytes_per_s;
  if (const auto found = memory_.find(item.id.backend); found != memory_.end()) {
    memory_bytes_per_s = (*found)["bytes_per_s"].get<double>();
  }
  return rows(item.id, {repetition, repetitions_}, *item.kernel, item.used_by, measured, memory_bytes_per_s);
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

double KernelRun::run_item(int index) {
  const KernelCase& item = kernels_[static_cast<size_t>(index)];
  const std::string name = item.id.name();
  const int repetition = repetitions_done_[index]++;
  const auto position = static_cast<int>(done_.size());
  Done done{index, repetition, {}};
  const double expected_s = flags_.time_per_kernel_s + kSetupGuessS;
  const auto watch = [&](std::string_view stage, const Samples*) {
    progress_.show(position, name, std::string(stage), 0, position * expected_s, expected_s);
    return stop_signal() == 0;
  };
  if (const Journal::Rows* earlier = journal_->find(name, repetition)) {
    done.rows = *earlier;
  } else if (stop_signal() != 0) {
    done.rows = rows_of(item, repetition, skipped_all("interrupted before it was measured"));
  } else if (!item.cannot_run.empty()) {
    done.rows = rows_of(item, repetition, skipped_all(item.cannot_run));
  } else if (const auto kernel = prepared(index, watch); const auto* why = std::get_if<Unsupported>(&kernel)) {
    // It could run when the run began: a device may be lost. Not kept for --resume, as another process may do it.
    done.rows = rows_of(item, repetition, skipped_all(why->reason));
  } else {
    PreparedKernel& ready = *std::get<PreparedKernel*>(kernel);
    done.rows = rows_of(item, repetition, measure(*item.kernel, ready, options_, caches_, watch));
    if (repetitions_done_[index] == repetitions_) prepared_.erase(index);
    if (stop_signal() == 0) journal_->append(name, repetition, done.rows);
  }
  std::string outcome;
  for (const Json& row : done.rows) {
    outcome += (outcome.empty() ? "" : ", ") + row["cache"].get<std::string>() + " " +
               (row.contains("median_s") ? duration(row["median_s"].get<double>())
                                         : row["status"].get<std::string>() + ": " + row.value("reason", ""));
  }
  const bool good = std::ranges::none_of(done.rows, [](const Json& row) { return row.contains("error_occurred"); });
  progress_.finish(position, name, outcome, good);
  const double median_s = done.rows.front().value("median_s", 0.0);
  done_.push_back(std::move(done));
  return median_s;
}

void KernelRun::dry_run() const {
  DryRun run({"kernel", "used"}, "kernels", flags_);
  const double expected_s = repetitions_ * (flags_.time_per_kernel_s + kSetupGuessS);
  for (const int i : selected_) {
    const KernelCase& item = kernels_[static_cast<size_t>(i)];
    run.add({item.id.name(), std::to_string(item.used_by.size())}, item.kernel->program, item.id.backend,
            item.cannot_run, expected_s);
  }
  std::cout << run.text();
}

void KernelRun::print_table() const {
  Table table({"kernel", "phase", "cache", "used", "time", "FLOP/s", "operands B/s", "implementation"});
  std::string problems;
  size_t warm = 0;
  Disturbed disturbed;
  for (const Done& done : done_) {
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

int KernelRun::finish() {
  std::map<std::pair<int, int>, bool> have;
  for (const Done& done : done_) have[{done.index, done.repetition}] = true;
  for (const int i : selected_) {
    for (int r = 0; r < repetitions_; ++r) {
      if (have.contains({i, r})) continue;
      const KernelCase& item = kernels_[static_cast<size_t>(i)];
      done_.push_back({i, r, rows_of(item, r, skipped_all("interrupted before it was measured"))});
    }
  }
  const Json document = results_document(
      "triphase_kernels", flags_,
      {{"environment", environment_}, {"memory", memory_}, {"settings", what_results_depend_on()}}, done_);
  return conclude(flags_, document, *journal_, progress_, [&] { print_table(); });
}

}  // namespace triphase
