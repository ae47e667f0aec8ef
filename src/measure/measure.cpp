// SPDX-License-Identifier: Apache-2.0
#include "measure/measure.h"

#include <functional>
#include <new>

#include "core/clock.h"
#include "core/error.h"
#include "core/memory_size.h"
#include "measure/process_usage.h"
#include "stats/order.h"

namespace triphase {
namespace {

constexpr double kTinyLearningRate = 1e-12;

constexpr double kBetweenReadingsS = 0.1;  // at least, and so long that they take a tenth of the time at most

// Compiles, judges memory, allocates and verifies: a plan to be timed, or none and why in `result`.
std::unique_ptr<Plan> prepare(const StepProgram& program, Backend& backend, const MeasureOptions& options,
                              const StageProgress& progress, Measurement& result) {
  const double begin_s = now_s();
  const auto stop = [&](std::string_view stage) {
    if (progress(stage, nullptr)) return false;
    result.reason = "interrupted before it was measured";
    return true;
  };
  if (auto shortage = memory_shortage(program, options.max_memory_bytes)) {
    result.reason = *shortage;
    return nullptr;
  }
  if (stop("compile")) return nullptr;
  auto compiled = backend.compile(program, {options.threads});
  if (const auto* unsupported = std::get_if<Unsupported>(&compiled)) {
    result.reason = unsupported->reason;
    return nullptr;
  }
  auto plan = std::move(std::get<std::unique_ptr<Plan>>(compiled));
  result.memory = plan->memory_plan();
  result.groups = plan->groups();
  result.extents = extents(program, *plan);
  if (auto shortage = memory_shortage(result.memory, options.max_memory_bytes)) {
    result.reason = *shortage;
    return nullptr;
  }
  if (stop("allocate")) return nullptr;
  plan->allocate(options.seed);
  result.groups = plan->groups();  // formulations are chosen by now
  if (stop("verify")) return nullptr;
  result.verification = verify(program, *plan, options.verify, options.seed, options.verify_reads);
  result.setup_s = now_s() - begin_s;
  if (!result.verification.ok()) {
    result.status = Status::kFailed;
    result.reason = result.verification.failure;
    return nullptr;
  }
  if (stop("sample")) return nullptr;
  plan->set_learning_rate(kTinyLearningRate);
  return plan;
}

void take_samples(StepSource& source, const MeasureOptions& options, const StageProgress& progress,
                  Measurement& result) {
  const ProcessUsage usage;
  double next_s = now_s() + kBetweenReadingsS;
  const auto read = [&] {
    const double begin_s = now_s();
    if (options.gauge != nullptr) result.readings.push_back(options.gauge->rates());
    if (auto state = source.state()) result.states.push_back(std::move(*state));
    next_s = now_s() + std::max(kBetweenReadingsS, 9 * (now_s() - begin_s));
  };
  result.samples = sample(source, options.sampling, [&](const Samples& so_far) {
    if (now_s() > next_s) read();
    return progress("sample", &so_far);
  });
  read();
  if (source.on_host()) {
    result.cpu_share = usage.cpu_share();
    result.switches_per_s = usage.switches_per_s();
    result.disturbed = usage.disturbed();
  }
  if (result.samples.step_s.empty()) {
    result.reason = "interrupted before a step was measured";
    return;
  }
  result.status = options.verify == VerifyMode::kOff ? Status::kUnverified : Status::kOk;
  if (result.status == Status::kUnverified) result.reason = "--verify=off";
}

// The median over pairs of a step launched call by call and one replayed, in about a second at most.
std::optional<double> launch_overhead(StepSource& source) {
  constexpr int kMostPairs = 15;
  constexpr double kEnough_s = 1;
  const double begin_s = now_s();
  std::vector<double> ratios;
  std::vector<double> stamps_s;
  for (int i = 0; i == 0 || (i < kMostPairs && now_s() - begin_s < kEnough_s); ++i) {
    const auto launched_s = source.run_launched_step();
    if (!launched_s) return {};
    source.run_step(Marks::kNone, stamps_s);
    ratios.push_back(*launched_s / (stamps_s.back() - stamps_s.front()));
  }
  return median(ratios);
}

// What goes wrong in `body` becomes a status and a reason.
void guarded(Measurement& result, const std::function<void()>& body) {
  try {
    body();
  } catch (const OutOfMemory& error) {
    result.status = Status::kSkipped;
    result.reason = error.what();
  } catch (const std::bad_alloc&) {
    result.status = Status::kSkipped;
    result.reason = "the system refused memory: needs " + memory_size(result.memory.peak_bytes());
  } catch (const std::exception& error) {  // a library's, by whatever type
    result.status = Status::kFailed;
    result.reason = error.what();
  }
}

}  // namespace

Measurement skipped(std::string reason) {
  Measurement result;
  result.reason = std::move(reason);
  return result;
}

std::optional<std::string> memory_shortage(const StepProgram& program, int64_t max_memory_bytes) {
  const int64_t least_bytes = logical_memory(program).total;
  if (least_bytes <= max_memory_bytes) return {};
  return "needs at least " + memory_size(least_bytes) + " of memory, " + memory_size(max_memory_bytes) + " may be used";
}

std::optional<std::string> memory_shortage(const MemoryPlan& plan, int64_t max_memory_bytes) {
  if (plan.peak_bytes() <= max_memory_bytes) return {};
  return "needs " + memory_size(plan.peak_bytes()) + " of memory, " + memory_size(max_memory_bytes) +
         " may be used (lasting " + memory_size(plan.persistent_bytes) + ", values and gradients " +
         memory_size(plan.transient_bytes) + ", scratch " + memory_size(plan.scratch_bytes) + ")";
}

Measurement measure(const StepProgram& program, Backend& backend, const MeasureOptions& options,
                    const StageProgress& progress) {
  Measurement result;
  guarded(result, [&] {
    if (const auto plan = prepare(program, backend, options, progress, result)) {
      take_samples(*plan, options, progress, result);
      if (!result.samples.step_s.empty()) result.launch_overhead = launch_overhead(*plan);
    }
  });
  return result;
}

PreparedKernel prepare(const Kernel& kernel, Backend& backend, const MeasureOptions& options,
                       const StageProgress& progress) {
  PreparedKernel prepared;
  guarded(prepared.setup, [&] { prepared.plan = prepare(kernel.program, backend, options, progress, prepared.setup); });
  return prepared;
}

std::vector<KernelMeasurement> measure(const Kernel& kernel, PreparedKernel& prepared, const MeasureOptions& options,
                                       std::span<const Cache> caches, const StageProgress& progress) {
  std::vector<KernelMeasurement> results;
  for (const Cache cache : caches) {
    results.push_back({cache, 1, prepared.setup});
    KernelMeasurement& result = results.back();
    if (!prepared.plan) continue;
    guarded(result.measured, [&] {
      if (cache == Cache::kCold && !prepared.plan->evict()) {
        result.measured.reason = "this processor has no way to empty its caches of what is chosen";
        return;
      }
      KernelSource source(kernel, *prepared.plan, cache);
      result.runs_per_sample = source.runs_per_sample();
      take_samples(source, options, progress, result.measured);
    });
  }
  return results;
}

}  // namespace triphase
