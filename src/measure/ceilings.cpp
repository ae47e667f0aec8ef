// SPDX-License-Identifier: Apache-2.0
#include "measure/ceilings.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/clock.h"
#include "stats/order.h"

namespace triphase {
namespace {

constexpr double kSampleS = 2e-4;  // shorter runs are repeated to fill it: far above the clock's resolution

struct Series {
  Probe probe;
  int64_t repeats = 1;
  std::vector<double> best_s;  // by pass
};

double run_s(const Probe& probe, int64_t repeats, const std::function<double()>& clock) {
  const double begin_s = clock();
  double own_s = 0;
  for (int64_t i = 0; i < repeats; ++i) {
    probe.run();
    if (probe.took_s) own_s += probe.took_s();
  }
  return (probe.took_s ? own_s : clock() - begin_s) / static_cast<double>(repeats);
}

// The best of a few runs of each probe in turn, there and back again so that a drift reaches all alike.
void take_pass(std::vector<Series>& group, const ProbeOptions& options) {
  constexpr int kFewest = 2;
  constexpr int kMost = 50;
  for (Series& series : group) series.best_s.push_back(std::numeric_limits<double>::infinity());
  const auto take = [&](Series& series) {
    series.best_s.back() = std::min(series.best_s.back(), run_s(series.probe, series.repeats, options.clock));
  };
  const double begin_s = options.clock();
  const auto time_left = [&] { return options.clock() - begin_s < options.seconds_per_group; };
  for (int round = 0; round < kFewest || (round < kMost && time_left()); ++round) {
    if (round % 2 == 0) {
      std::ranges::for_each(group, take);
    } else {
      std::for_each(group.rbegin(), group.rend(), take);
    }
  }
}

Ceiling ceiling_of(const Series& series, int threads) {
  Ceiling result;
  result.kernel = series.probe.kernel;
  result.dtype = series.probe.dtype;
  result.level = series.probe.level;
  result.shape = series.probe.shape;
  result.threads = threads;
  result.working_set_bytes = series.probe.working_set_bytes;
  result.latency = series.probe.latency;
  std::vector<double> values = series.best_s;
  for (double& value : values) value = result.latency ? value / series.probe.work : series.probe.work / value;
  result.value = *median(values);
  result.ci95 = median_interval(values);
  const auto [low, high] = std::ranges::minmax(values);
  result.best = result.latency ? low : high;
  result.passes = values.size();
  return result;
}

Ceiling gauge_ceiling(const std::string& kernel, const Readings& readings, int threads) {
  std::vector<double> rates;
  for (const auto& reading : readings) rates.push_back(reading.at(kernel));
  Ceiling result;
  result.kernel = kernel;
  result.threads = threads;
  result.value = *median(rates);
  result.ci95 = median_interval(rates);
  result.best = *std::ranges::max_element(rates);
  result.passes = rates.size();
  return result;
}

bool better(const Ceiling& a, const Ceiling& b) { return a.latency ? a.value < b.value : a.value > b.value; }

bool is_gauge(const std::string& kernel) { return kernel.starts_with("gauge_"); }

// Whether they differ in shape alone.
bool same_limit(const Ceiling& a, const Ceiling& b) {
  return a.kernel == b.kernel && a.dtype == b.dtype && a.level == b.level && a.threads == b.threads &&
         (a.level.empty() || a.working_set_bytes == b.working_set_bytes);
}

// Of ceilings that differ in shape alone the best.
void keep_best(std::vector<Ceiling>& all, Ceiling added) {
  for (Ceiling& have : all) {
    if (!same_limit(have, added)) continue;
    if (better(added, have)) have = std::move(added);
    return;
  }
  all.push_back(std::move(added));
}

}  // namespace

std::vector<Ceiling> measure_ceilings(Backend& backend, int threads, int64_t max_memory_bytes,
                                      const ProbeOptions& options, const std::function<bool()>& keep_on) {
  const std::optional<Gauge> gauge = Gauge::make(backend, threads, max_memory_bytes);
  if (gauge) max_memory_bytes -= gauge->memory_bytes();
  Readings readings;
  std::vector<std::vector<Series>> groups;
  for (const ProbeGroup& group : backend.probes(threads)) {
    if (group.memory_bytes > max_memory_bytes) continue;
    max_memory_bytes -= group.memory_bytes;
    groups.emplace_back();
    for (Probe& probe : group.make()) {
      if (keep_on && !keep_on()) return {};
      probe.run();  // loads, touches, wakes threads
      const double once_s = std::max(run_s(probe, 2, options.clock), 1e-9);
      groups.back().push_back({std::move(probe), std::max<int64_t>(1, std::llround(kSampleS / once_s)), {}});
    }
  }
  for (int pass = 0; pass < options.passes; ++pass) {
    for (std::vector<Series>& group : groups) {
      if (keep_on && !keep_on()) return {};
      take_pass(group, options);
      if (gauge) readings.push_back(gauge->rates());
    }
  }
  std::vector<Ceiling> result;
  for (const std::vector<Series>& group : groups) {
    for (const Series& series : group) keep_best(result, ceiling_of(series, threads));
  }
  if (!readings.empty()) {
    for (const auto& [kernel, rate] : readings.front()) result.push_back(gauge_ceiling(kernel, readings, threads));
  }
  return result;
}

std::optional<Gauge> Gauge::make(Backend& backend, int threads, int64_t max_memory_bytes) {
  const ProbeGroup group = backend.gauge(threads);
  if (!group.make || group.memory_bytes > max_memory_bytes) return {};
  Gauge gauge;
  gauge.memory_bytes_ = group.memory_bytes;
  gauge.probes_ = group.make();
  return gauge;
}

std::map<std::string, double> Gauge::rates() const {
  std::map<std::string, double> result;
  for (const Probe& probe : probes_) {
    if (probe.kernel == "gauge_cache") probe.run();  // brings its data to where it is to be found
    result[probe.kernel] = probe.work / run_s(probe, 1, now_s);
  }
  return result;
}

Speed speed_of(const Readings& readings, const std::vector<Ceiling>& ceilings, int threads) {
  const auto factor = [&](const std::string& kernel) {
    std::vector<double> rates;
    for (const auto& reading : readings) {
      if (reading.contains(kernel)) rates.push_back(reading.at(kernel));
    }
    const auto now = median(rates);
    for (const Ceiling& c : ceilings) {
      if (now && c.kernel == kernel && c.threads == threads) return *now / c.value;
    }
    return 1.0;
  };
  return {factor("gauge_arithmetic"), factor("gauge_cache"), factor("gauge_memory")};
}

Ceiling at_speed(Ceiling ceiling, const Speed& speed) {
  const double rate = ceiling.level == "memory" ? speed.memory : ceiling.level == "L3" ? speed.cache : speed.arithmetic;
  const double factor = ceiling.latency ? 1 / rate : rate;
  ceiling.value *= factor;
  ceiling.best *= factor;
  if (ceiling.ci95) ceiling.ci95 = Interval{ceiling.ci95->low * factor, ceiling.ci95->high * factor};
  return ceiling;
}

std::string name_of(const Ceiling& c) {
  return c.kernel + (c.dtype.empty() ? "" : " " + c.dtype) + (c.level.empty() ? "" : " " + c.level);
}

std::vector<std::pair<Ceiling, Ceiling>> raise_ceilings(std::vector<Ceiling>& known,
                                                        const std::vector<Ceiling>& again) {
  std::vector<std::pair<Ceiling, Ceiling>> raised;
  for (Ceiling& have : known) {
    if (is_gauge(have.kernel)) continue;
    const auto now = std::ranges::find_if(again, [&](const Ceiling& other) { return same_limit(have, other); });
    if (now == again.end()) continue;
    Readings reading(1);  // how fast the machine was the second time
    for (const Ceiling& c : again) {
      if (is_gauge(c.kernel) && c.threads == have.threads) reading[0][c.kernel] = c.value;
    }
    const Speed speed = speed_of(reading, known, have.threads);
    const auto down = [](double rate) { return 1 / std::max(1.0, rate); };
    const Ceiling then = at_speed(*now, {down(speed.arithmetic), down(speed.cache), down(speed.memory)});
    if (!better(then, have)) continue;
    raised.emplace_back(have, then);
    have = then;
  }
  return raised;
}

Machine::Machine(const std::vector<Ceiling>& ceilings, int threads, const Speed& speed) {
  for (const Ceiling& c : ceilings) {
    if (c.threads == threads && !is_gauge(c.kernel)) ceilings_.push_back(at_speed(c, speed));
  }
  std::ranges::stable_sort(ceilings_, {}, &Ceiling::working_set_bytes);
}

bool Machine::complete() const {
  const auto has = [&](const char* kernel) { return interpolated(kernel, 1).has_value(); };
  return flop_per_s("gemm", "f32") && has("read") && has("write") && has("update") && has("load") && has("call") &&
         has("fork_join");
}

std::optional<double> Machine::flop_per_s(const std::string& kernel, const std::string& dtype) const {
  for (const Ceiling& c : ceilings_) {
    if (c.kernel == kernel && c.dtype == dtype && !c.latency) return c.value;
  }
  return {};
}

std::optional<double> Machine::latency_s(const std::string& kernel, double working_set_bytes) const {
  return interpolated(kernel, working_set_bytes);
}

std::optional<double> Machine::bytes_per_s(const std::string& kernel, double working_set_bytes) const {
  return interpolated(kernel, working_set_bytes);
}

std::optional<Machine::Between> Machine::around(const std::string& kernel, double working_set_bytes) const {
  const Ceiling* below = nullptr;
  for (const Ceiling& c : ceilings_) {
    if (c.kernel != kernel) continue;
    const auto set = static_cast<double>(c.working_set_bytes);
    if (working_set_bytes <= set) {
      if (below == nullptr) return Between{&c, &c, 0};
      const auto from = static_cast<double>(below->working_set_bytes);
      return Between{below, &c, std::log(working_set_bytes / from) / std::log(set / from)};
    }
    below = &c;
  }
  if (below == nullptr) return {};
  return Between{below, below, 0};
}

std::optional<double> Machine::interpolated(const std::string& kernel, double working_set_bytes) const {
  const auto found = around(kernel, working_set_bytes);
  if (!found) return {};
  return found->below->value * std::pow(found->above->value / found->below->value, found->share);
}

std::vector<Machine::Share> Machine::shares(double working_set_bytes) const {
  const auto found = around("read", working_set_bytes);
  if (!found) return {};
  const auto& [below, above, share] = *found;
  std::vector<Share> result = {{below->level, 1 - share, static_cast<double>(below->working_set_bytes)}};
  if (below != above) result.push_back({above->level, share, static_cast<double>(above->working_set_bytes)});
  return result;
}

}  // namespace triphase
