// SPDX-License-Identifier: Apache-2.0
#include "measure/measure.h"

#include <sys/resource.h>

#include <array>
#include <cstdio>
#include <new>

#include "core/clock.h"
#include "core/error.h"

namespace triphase {
namespace {

constexpr double kTinyLearningRate = 1e-12;

struct ProcessUsage {
  double cpu_s = 0;
  int64_t involuntary_switches = 0;
};

ProcessUsage process_usage() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return {seconds(usage.ru_utime) + seconds(usage.ru_stime), usage.ru_nivcsw};
}

std::string gib(int64_t count) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.3g GiB", static_cast<double>(count) / (1 << 30));
  return text.data();
}

constexpr double kBetweenReadingsS = 0.1;  // so that they take about a tenth of the time

void run(const StepProgram& program, Backend& backend, const MeasureOptions& options, const StageProgress& progress,
         Measurement& result) {
  const double begin_s = now_s();
  const auto stop = [&](std::string_view stage) {
    if (progress(stage, nullptr)) return false;
    result.reason = "interrupted before it was measured";
    return true;
  };
  if (auto shortage = memory_shortage(logical_memory(program).total, options.max_memory_bytes)) {
    result.reason = *shortage;
    return;
  }
  if (stop("compile")) return;
  auto compiled = backend.compile(program, {options.threads});
  if (const auto* unsupported = std::get_if<Unsupported>(&compiled)) {
    result.reason = unsupported->reason;
    return;
  }
  Plan& plan = *std::get<std::unique_ptr<Plan>>(compiled);
  result.memory = plan.memory_plan();
  result.groups = plan.groups();
  if (auto shortage = memory_shortage(result.memory, options.max_memory_bytes)) {
    result.reason = *shortage;
    return;
  }
  if (stop("allocate")) return;
  plan.allocate(options.seed);
  result.groups = plan.groups();  // formulations are chosen by now
  if (stop("verify")) return;
  result.verification = verify(program, plan, options.verify, options.seed);
  result.setup_s = now_s() - begin_s;
  if (!result.verification.ok()) {
    result.status = Status::kFailed;
    result.reason = result.verification.failure;
    return;
  }
  if (stop("sample")) return;
  plan.set_learning_rate(kTinyLearningRate);
  const ProcessUsage before = process_usage();
  const double sample_begin_s = now_s();
  double read_s = sample_begin_s;
  result.samples = sample(plan, options.sampling, [&](const Samples& so_far) {
    if (options.gauge != nullptr && now_s() - read_s > kBetweenReadingsS) {
      result.readings.push_back(options.gauge->rates());
      read_s = now_s();
    }
    return progress("sample", &so_far);
  });
  const double elapsed_s = now_s() - sample_begin_s;
  const ProcessUsage after = process_usage();
  if (elapsed_s > 0) {
    result.cpu_share = (after.cpu_s - before.cpu_s) / elapsed_s;
    result.switches_per_s = static_cast<double>(after.involuntary_switches - before.involuntary_switches) / elapsed_s;
  }
  if (result.samples.step_s.empty()) {
    result.reason = "interrupted before a step was measured";
    return;
  }
  result.status = options.verify == VerifyMode::kOff ? Status::kUnverified : Status::kOk;
  if (result.status == Status::kUnverified) result.reason = "--verify=off";
}

}  // namespace

Measurement skipped(std::string reason) {
  Measurement result;
  result.reason = std::move(reason);
  return result;
}

std::optional<std::string> memory_shortage(int64_t needed_bytes, int64_t max_memory_bytes) {
  if (needed_bytes <= max_memory_bytes) return {};
  return "needs " + gib(needed_bytes) + " of memory, " + gib(max_memory_bytes) + " may be used";
}

std::optional<std::string> memory_shortage(const MemoryPlan& plan, int64_t max_memory_bytes) {
  auto shortage = memory_shortage(plan.peak_bytes(), max_memory_bytes);
  if (shortage) {
    *shortage += " (lasting " + gib(plan.persistent_bytes) + ", values and gradients " + gib(plan.transient_bytes) +
                 ", scratch " + gib(plan.scratch_bytes) + ")";
  }
  return shortage;
}

Measurement measure(const StepProgram& program, Backend& backend, const MeasureOptions& options,
                    const StageProgress& progress) {
  Measurement result;
  try {
    run(program, backend, options, progress, result);
  } catch (const std::bad_alloc&) {
    result.status = Status::kSkipped;
    result.reason = "the system refused memory: needs " + gib(result.memory.peak_bytes());
  } catch (const std::exception& error) {  // a library's, by whatever type
    result.status = Status::kFailed;
    result.reason = error.what();
  }
  return result;
}

}  // namespace triphase
