// SPDX-License-Identifier: Apache-2.0
#include "measure/sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <span>
#include <stdexcept>

#include "measure/summary.h"
#include "stats/order.h"
#include "stats/steady.h"

namespace triphase {
namespace {

// A palindrome: every kind of step has the same mean position, so a linear drift cancels. Each unmarked step has a step
// with phase marks on one side, in turns before and after.
constexpr std::array kPattern = {Marks::kPhases, Marks::kPhases, Marks::kNone, Marks::kLayers, Marks::kPhases,
                                 Marks::kPhases, Marks::kLayers, Marks::kNone, Marks::kPhases, Marks::kPhases};
constexpr std::array kAlike = {Marks::kPhases};  // where marks tell nothing apart
constexpr size_t kFirstLook = 12;                // fewer samples cannot show a change
constexpr double kLookGrowth = 1.3;
constexpr double kFirstRunsShare =
    0.1;  // of the budget, for the discarded first runs of unmarked and layer-marked steps

bool is_narrow(std::span<const double> series, double relative_half_width) {
  const std::optional<Interval> interval = median_interval(series);
  return interval && interval->high - interval->low <= 2 * relative_half_width * *median(series);
}

template <class T>
void drop_first(std::vector<T>& values, size_t count) {
  values.erase(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(count));
}

class Sampler {
 public:
  Sampler(StepSource& source, const SampleOptions& options) : source_(source), options_(options) {
    for (const Marks marks : {Marks::kNone, Marks::kPhases, Marks::kLayers}) {
      const std::span<const Segment> segments = source.segments(marks);
      segments_[index(marks)].assign(segments.begin(), segments.end());
    }
    if (std::ranges::all_of(segments_, [](const auto& segments) { return segments.size() == 1; })) {
      pattern_ = kAlike;
      return;
    }
    for (const Segment& segment : segments_[index(Marks::kLayers)]) {
      const auto same = [&](const Samples::Layer& item) {
        return item.layer == segment.layer && item.phase == segment.phase;
      };
      const auto found = std::ranges::find_if(samples_.layers, same);
      layer_slots_.push_back(static_cast<size_t>(found - samples_.layers.begin()));
      if (found == samples_.layers.end()) samples_.layers.push_back({segment.layer, segment.phase, {}});
    }
  }

  Samples run(const Progress& progress) {
    samples_.stop_reason = take_samples(progress);
    drop_warmup();
    return std::move(samples_);
  }

 private:
  static size_t index(Marks marks) { return static_cast<size_t>(marks); }

  std::string take_samples(const Progress& progress) {
    const auto interrupted = [&] { return progress && !progress(samples_); };
    // The first step of a kind may load or capture something.
    for (const Marks marks : {Marks::kPhases, Marks::kNone, Marks::kLayers}) {
      if (marks != Marks::kPhases && (!takes(marks) || spent_s() > kFirstRunsShare * options_.budget_s)) break;
      run_step(marks);
      ++samples_.warmup_steps;
      if (interrupted()) return "interrupted";
    }
    size_t next_look = kFirstLook;
    bool was_precise = false;
    for (size_t i = 0;; i = (i + 1) % pattern_.size()) {
      if (spent_s() >= options_.budget_s) {
        if (!lacks(Marks::kPhases) && !lacks(Marks::kLayers)) return "budget";
        if (!lacks(pattern_[i])) continue;
      }
      record(pattern_[i], i < pattern_.size() / 2);
      if (interrupted()) return "interrupted";
      const size_t count = samples_.step_s.size();
      if (count >= next_look) {
        next_look = static_cast<size_t>(std::ceil(kLookGrowth * static_cast<double>(count)));
        const bool precise = is_precise();
        if (precise && was_precise && spent_s() >= options_.minimum_s) return "interval";
        was_precise = precise;
      }
      if (count >= options_.max_samples) return "max_samples";
    }
  }

  double spent_s() const { return samples_.measured_s + source_.untimed_s() - untimed_before_s_; }

  bool takes(Marks marks) const { return std::ranges::find(pattern_, marks) != pattern_.end(); }

  bool lacks(Marks marks) const {
    if (marks == Marks::kPhases) return samples_.step_s.size() < options_.min_samples;
    return marks == Marks::kLayers && takes(marks) && samples_.layered_step_s.size() < options_.min_layered_samples;
  }

  // The whole step's time.
  double run_step(Marks marks) {
    source_.run_step(marks, stamps_s_);
    if (stamps_s_.size() != segments_[index(marks)].size() + 1) {
      throw std::logic_error("a step gave " + std::to_string(stamps_s_.size()) + " stamps for " +
                             std::to_string(segments_[index(marks)].size()) + " segments");
    }
    const double step_s = stamps_s_.back() - stamps_s_.front();
    samples_.measured_s += step_s;
    return step_s;
  }

  void record(Marks marks, bool neighbour_is_before) {
    const double step_s = run_step(marks);
    const size_t count = samples_.step_s.size();
    switch (marks) {
      case Marks::kNone:
        samples_.unmarked_step_s.push_back(step_s);
        samples_.unmarked_neighbour.push_back(neighbour_is_before ? count - 1 : count);
        unmarked_after_.push_back(count);
        break;
      case Marks::kPhases:
        samples_.step_s.push_back(step_s);
        for (std::vector<double>& series : samples_.phase_s) series.push_back(0);
        for (size_t i = 0; i + 1 < stamps_s_.size(); ++i) {
          const Phase phase = segments_[index(marks)][i].phase;
          samples_.phase_s[static_cast<size_t>(phase)].back() += stamps_s_[i + 1] - stamps_s_[i];
        }
        break;
      case Marks::kLayers:
        samples_.layered_step_s.push_back(step_s);
        layered_after_.push_back(count);
        for (Samples::Layer& item : samples_.layers) item.s.push_back(0);
        for (size_t i = 0; i + 1 < stamps_s_.size(); ++i) {
          samples_.layers[layer_slots_[i]].s.back() += stamps_s_[i + 1] - stamps_s_[i];
        }
        break;
    }
  }

  // Smaller shifts than half the wanted precision do not count.
  Steadiness steadiness() const { return find_steady_state(samples_.step_s, options_.relative_half_width / 2); }

  bool is_precise() const {
    const Steadiness found = steadiness();
    if (!found.steady) return false;
    const auto narrow = [&](const std::vector<double>& series) {
      return is_narrow(std::span(series).subspan(found.warmup), options_.relative_half_width);
    };
    const std::vector<double>& forward_s = samples_.phase_s[static_cast<size_t>(Phase::kForward)];
    const std::vector<double> backward_s = phase_sum_s(samples_, is_backward);
    const auto ratios = paired_ratios(backward_s, forward_s);
    return narrow(samples_.step_s) && narrow(forward_s) && narrow(backward_s) && (!ratios || narrow(*ratios));
  }

  // Of every series what ran before the first sample of step_s that is kept.
  void drop_warmup() {
    const Steadiness found = steadiness();
    if (samples_.step_s.size() >= kFirstLook) samples_.steady = found.steady;
    const size_t warmup = found.warmup;
    const auto count_before = [&](const std::vector<size_t>& after) {
      return static_cast<size_t>(std::ranges::upper_bound(after, warmup) - after.begin());
    };
    const size_t layered = count_before(layered_after_);
    const size_t unmarked = count_before(unmarked_after_);
    drop_first(samples_.step_s, warmup);
    for (std::vector<double>& series : samples_.phase_s) drop_first(series, warmup);
    for (Samples::Layer& item : samples_.layers) drop_first(item.s, layered);
    drop_first(samples_.layered_step_s, layered);
    drop_first(samples_.unmarked_step_s, unmarked);
    drop_first(samples_.unmarked_neighbour, unmarked);
    for (size_t& position : samples_.unmarked_neighbour) position -= warmup;
    samples_.warmup_steps += warmup + layered + unmarked;
  }

  StepSource& source_;
  const SampleOptions options_;
  const double untimed_before_s_ = source_.untimed_s();
  std::span<const Marks> pattern_ = kPattern;
  std::array<std::vector<Segment>, 3> segments_;  // by Marks
  std::vector<size_t> layer_slots_;               // for each segment with layer marks, its index in samples_.layers
  std::vector<size_t> layered_after_;             // for each layered step, how many of step_s ran before it
  std::vector<size_t> unmarked_after_;            // and for each unmarked one
  std::vector<double> stamps_s_;
  Samples samples_;
};

}  // namespace

Samples sample(StepSource& source, const SampleOptions& options, const Progress& progress) {
  return Sampler(source, options).run(progress);
}

std::vector<double> phase_sum_s(const Samples& samples, const std::function<bool(Phase)>& included) {
  std::vector<double> sums(samples.step_s.size());
  for (const Phase phase : kAllPhases) {
    if (!included(phase)) continue;
    std::ranges::transform(sums, samples.phase_s[static_cast<size_t>(phase)], sums.begin(), std::plus());
  }
  return sums;
}

std::optional<double> marking_overhead(const Samples& samples) {
  std::vector<double> marked;
  std::vector<double> unmarked;
  for (size_t i = 0; i < samples.unmarked_step_s.size(); ++i) {
    if (samples.unmarked_neighbour[i] >= samples.step_s.size()) continue;  // sampling ended before it
    marked.push_back(samples.step_s[samples.unmarked_neighbour[i]]);
    unmarked.push_back(samples.unmarked_step_s[i]);
  }
  const auto ratios = paired_ratios(marked, unmarked);
  return ratios ? median(*ratios) : std::nullopt;
}

}  // namespace triphase
