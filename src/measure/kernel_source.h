// SPDX-License-Identifier: Apache-2.0
// Runs a kernel alone, as a StepSource whose steps are runs of it, so that the sampler and the statistics are those of
// whole steps. What is timed: the kernel's groups of a plan, and nothing else of the step.
//
// Hot: back-to-back runs, as many a sample as the resolution of the backend's clock asks for; caches are as the run
// before leaves them, so that operands larger than a cache are not in it. Cold: before every single run all that the
// plan has allocated is pushed out of every cache, outside the timed interval. Cold operands are all that is cold:
// code, the library's tables and address translations are not, and the threads are awake.
#pragma once

#include <functional>
#include <vector>

#include "backends/backend.h"
#include "core/clock.h"
#include "program/kernel.h"

namespace triphase {

enum class Cache { kHot, kCold };

constexpr std::string_view to_string(Cache cache) { return cache == Cache::kHot ? "hot" : "cold"; }

using Clock = std::function<double()>;  // seconds, of the host

class KernelSource : public StepSource {
 public:
  // Runs a few times, to make what the kernel reads and to find how many runs a sample takes. `plan` is the kernel's,
  // allocated; both outlive this.
  KernelSource(const Kernel& kernel, Plan& plan, Cache cache, Clock clock = now_s);

  std::span<const Segment> segments(Marks) const override { return segments_; }
  // Stamps the time of one run; of several, their mean.
  void run_step(Marks marks, std::vector<double>& stamps_s) override;
  double untimed_s() const override { return untimed_s_; }
  bool on_host() const override { return plan_.on_host(); }
  std::optional<DeviceState> state() override { return plan_.state(); }

  int64_t runs_per_sample() const { return runs_; }

 private:
  Plan& plan_;
  Cache cache_;
  Clock clock_;
  std::vector<Segment> segments_;
  std::vector<int> groups_;
  int64_t runs_ = 1;
  double untimed_s_ = 0;
};

}  // namespace triphase
