// SPDX-License-Identifier: Apache-2.0
// What the machine can do at best, measured: rates of arithmetic, of moving memory at each level, and latencies.
//
// All probes take turns in several passes, so that none has the quiet moments to itself. A pass keeps the best of a few
// runs, since whatever else the machine does only slows them; the ceiling is the median over the passes, so that no
// lucky one sets it, and its interval says how well it is known. Among probes of one kernel and level that differ in
// shape the fastest stands.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backends/backend.h"
#include "core/clock.h"
#include "stats/interval.h"

namespace triphase {

struct Ceiling {
  std::string kernel;  // as in Probe
  std::string dtype;   // of arithmetic; empty for the others
  std::string level;   // L1, L2, L3 or memory for what reads and writes; empty for the others
  std::string shape;   // what reached it
  int threads = 1;
  int64_t working_set_bytes = 0;  // of all threads together
  bool latency = false;           // whether `value` is seconds, the smaller the better, and not FLOP or bytes a second
  double value = 0;               // the median over passes
  std::optional<Interval> ci95;
  double best = 0;  // of all passes
  size_t passes = 0;
};

struct ProbeOptions {
  int passes = 7;                         // below 6 there is no interval
  double seconds_per_group = 0.2;         // of a pass
  std::function<double()> clock = now_s;  // tests have their own
};

// Runs the probes of a backend on so many threads. Groups are left out that need more than what `max_memory_bytes`
// leaves. `keep_on` is asked now and then and may end it; then there is no result. Passes on what a probe throws.
std::vector<Ceiling> measure_ceilings(Backend& backend, int threads, int64_t max_memory_bytes,
                                      const ProbeOptions& options, const std::function<bool()>& keep_on);

// How fast the machine is at the moment beside what it was when its ceilings were measured: shared machines drift.
struct Speed {
  double arithmetic = 1;
  double cache = 1;  // L3
  double memory = 1;
};

constexpr int kGaugeShare = 8;  // the gauge takes at most one part in so many of the memory that there is

// Tells the speed, by a product, an update in the last level of cache and one in memory. Holds their memory.
class Gauge {
 public:
  // Absent where the backend has none or the memory does not suffice.
  static std::optional<Gauge> make(Backend& backend, int threads, int64_t max_memory_bytes);

  // One reading, in about 10 ms: the rates by kernel, gauge_arithmetic and so on.
  std::map<std::string, double> rates() const;
  int64_t memory_bytes() const { return memory_bytes_; }

 private:
  std::vector<Probe> probes_;
  int64_t memory_bytes_ = 0;
};

// Readings that belong together.
using Readings = std::vector<std::map<std::string, double>>;

// The median of readings beside the rates among the ceilings; 1 where either is missing.
Speed speed_of(const Readings& readings, const std::vector<Ceiling>& ceilings, int threads);

// The ceiling of a machine that runs at `speed`, of one that was measured at speed 1.
Ceiling at_speed(Ceiling ceiling, const Speed& speed);

// "gemm f32", "read L3".
std::string name_of(const Ceiling& ceiling);

// Replaces each of the `known` ceilings that was better when measured `again`, and gives those replaced as they were
// and as they are. Where the gauge tells that the machine was faster the second time, what it reached then is brought
// down to its speed the first time; never up, as a busy machine slows the gauge and lets the best of other runs pass.
// Gauges stay as they were.
std::vector<std::pair<Ceiling, Ceiling>> raise_ceilings(std::vector<Ceiling>& known, const std::vector<Ceiling>& again);

// The machine as a step on so many threads sees it. Rates that were not measured are absent.
class Machine {
 public:
  Machine() = default;
  Machine(const std::vector<Ceiling>& ceilings, int threads, const Speed& speed = {});

  // Whether every rate and latency was measured that a prediction for a network without convolutions needs.
  bool complete() const;
  // FLOP a second of gemm or convolution.
  std::optional<double> flop_per_s(const std::string& kernel, const std::string& dtype) const;
  // Seconds of fork_join or call, or of a load that waits for the one before within a working set.
  std::optional<double> latency_s(const std::string& kernel, double working_set_bytes = 0) const;
  // Bytes a second of read, write, stream, copy or update over a working set: between the measured ones linear in the
  // logarithms, beyond them as at the nearest.
  std::optional<double> bytes_per_s(const std::string& kernel, double working_set_bytes) const;
  // How much of a working set is found in which level: between two measured sets by the logarithm of the distance to
  // each, so that a set somewhat beyond a cache is still found there for the most part.
  struct Share {
    std::string level;
    double share = 0;
    double working_set_bytes = 0;  // at which that level was measured
  };
  std::vector<Share> shares(double working_set_bytes) const;

 private:
  // Where a working set lies among those that a kernel was measured over: `share` of the way from one to the next, in
  // logarithms; both are the same at either end. Absent where the kernel was never measured.
  struct Between {
    const Ceiling* below;
    const Ceiling* above;
    double share;
  };
  std::optional<Between> around(const std::string& kernel, double working_set_bytes) const;
  std::optional<double> interpolated(const std::string& kernel, double working_set_bytes) const;

  std::vector<Ceiling> ceilings_;  // of these threads, by working set
};

}  // namespace triphase
