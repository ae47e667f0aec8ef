// SPDX-License-Identifier: Apache-2.0
// Measures one case from its program to its samples: compile, judge memory, allocate, verify, then time real steps from
// restored parameters with a learning rate so small that the data's distribution does not drift. A kernel alone goes
// the same way, and is timed run by run in place of steps.
#pragma once

#include <optional>
#include <string>

#include "backends/backend.h"
#include "measure/ceilings.h"
#include "measure/kernel_source.h"
#include "measure/sampler.h"
#include "measure/verify.h"

namespace triphase {

enum class Status { kOk, kSkipped, kFailed, kUnverified };

constexpr std::string_view to_string(Status status) {
  switch (status) {
    case Status::kOk:
      return "ok";
    case Status::kSkipped:
      return "skipped";
    case Status::kFailed:
      return "failed";
    case Status::kUnverified:
      return "unverified";
  }
  return "?";
}

struct MeasureOptions {
  int threads = 1;
  VerifyMode verify = VerifyMode::kSampled;
  int64_t verify_reads = kMostReads;  // for each output; see verify()
  int64_t max_memory_bytes = 0;
  uint64_t seed = 1;
  SampleOptions sampling;
  const Gauge* gauge = nullptr;  // read now and then between steps
};

struct Measurement {
  Status status = Status::kSkipped;
  std::string reason;           // where the status is not ok
  std::vector<Group> groups;    // of the plan; empty where there is none
  std::vector<Extent> extents;  // of the plan, by tensor
  MemoryPlan memory;
  Verification verification;
  double setup_s = 0;    // compile, allocate, fill and verify
  double cpu_share = 1;  // CPU time of the process / wall time while sampling; 1 where the time is a device's
  // Involuntary context switches while sampling: how often others took a processor away. Absent where a device
  // computes.
  std::optional<double> switches_per_s;
  bool disturbed = false;                 // so often that the times are not to be trusted
  Readings readings;                      // of the gauge while sampling
  std::optional<double> launch_overhead;  // step time launched call by call / replayed
  std::vector<DeviceState> states;        // of the device while sampling; none of the host
  Samples samples;
};

// Told what is going on: "compile", "allocate", "verify", "sample" with the samples so far; false stops.
using StageProgress = std::function<bool(std::string_view stage, const Samples* so_far)>;

// Never throws for what goes wrong with the case itself: that becomes a status and a reason.
Measurement measure(const StepProgram& program, Backend& backend, const MeasureOptions& options,
                    const StageProgress& progress);

struct KernelMeasurement {
  Cache cache = Cache::kHot;
  int64_t runs_per_sample = 1;
  Measurement measured;  // its steps are runs
};

// A kernel's plan, allocated and verified, or why there is none. May be measured again and again.
struct PreparedKernel {
  Measurement setup;  // all but samples
  std::unique_ptr<Plan> plan;
};

// The kernel must outlive what is prepared. Never throws for what goes wrong with the kernel itself.
PreparedKernel prepare(const Kernel& kernel, Backend& backend, const MeasureOptions& options,
                       const StageProgress& progress);

// One for each of `caches`, in their order; options.sampling is for each.
std::vector<KernelMeasurement> measure(const Kernel& kernel, PreparedKernel& prepared, const MeasureOptions& options,
                                       std::span<const Cache> caches, const StageProgress& progress);

// A case that did not run, and why.
Measurement skipped(std::string reason);

// "needs 12.1 GiB of memory, 8 GiB may be used (lasting 9 GiB, values and gradients 2 GiB, scratch 1.1 GiB)" of a plan;
// before there is one, "needs at least" what a step must hold between its passes. Absent where it fits.
std::optional<std::string> memory_shortage(const StepProgram& program, int64_t max_memory_bytes);
std::optional<std::string> memory_shortage(const MemoryPlan& plan, int64_t max_memory_bytes);

}  // namespace triphase
