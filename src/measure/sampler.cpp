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
constexpr std::array kPatternWherePassesAreApart = {Marks::kPasses, Marks::kPasses, Marks::kNone,   Marks::kPhases,
                                                    Marks::kLayers, Marks::kPasses, Marks::kPasses, Marks::kLayers,
                                                    Marks::kPhases, Marks::kNone,   Marks::kPasses, Marks::kPasses};
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
    for (const Marks marks : {Marks::kNone, Marks::kPasses, Marks::kPhases, Marks::kLayers}) {
      const std::span<const Segment> segments = source.segments(marks);
      segments_[index(marks)].assign(segments.begin(), segments.end());
    }
    if (source.marks_cost_time()) {
      main_ = Marks::kPasses;
      pattern_ = kPatternWherePassesAreApart;
    }
    if (std::ranges::all_of(segments_, [](const auto& segments) { return segments.size() == 1; })) {
      main_ = Marks::kPhases;
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
    run_step(main_);
    ++samples_.warmup_steps;
    if (interrupted()) return "interrupted";
    for (const Marks marks : {Marks::kNone, Marks::kLayers, Marks::kPhases}) {
      if (marks == main_ || !takes(marks)) continue;
      if (spent_s() > kFirstRunsShare * options_.budget_s) break;
      run_step(marks);
      ++samples_.warmup_steps;
      if (interrupted()) return "interrupted";
    }
    size_t next_look = kFirstLook;
    bool was_precise = false;
    for (size_t i = 0;; i = (i + 1) % pattern_.size()) {
      if (spent_s() >= options_.budget_s) {
        if (std::ranges::none_of(pattern_, [&](Marks marks) { return lacks(marks); })) {
          if (!wants_more()) return "budget";
          wanted_ += options_.more_samples;
        }
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
    if (marks == main_) return samples_.step_s.size() < wanted_;
    if (marks == Marks::kPhases) return samples_.phase_s.front().size() < options_.min_layered_samples;
    return marks == Marks::kLayers && samples_.layered_step_s.size() < options_.min_layered_samples;
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
    const std::vector<Segment>& segments = segments_[index(marks)];
    if (marks == main_) {
      samples_.step_s.push_back(step_s);
      add_intervals(samples_.pass_s, [&](size_t i) { return static_cast<size_t>(pass_of(segments[i].phase)); });
    }
    if (marks == Marks::kNone) {
      samples_.unmarked_step_s.push_back(step_s);
      samples_.unmarked_neighbour.push_back(neighbour_is_before ? count - 1 : count);
      unmarked_after_.push_back(count);
    }
    if (marks == Marks::kPhases) {
      phased_after_.push_back(samples_.step_s.size());
      add_intervals(samples_.phase_s, [&](size_t i) { return static_cast<size_t>(segments[i].phase); });
    }
    if (marks == Marks::kLayers) {
      samples_.layered_step_s.push_back(step_s);
      layered_after_.push_back(count);
      for (Samples::Layer& item : samples_.layers) item.s.push_back(0);
      for (size_t i = 0; i < segments.size(); ++i) samples_.layers[layer_slots_[i]].s.back() += interval_s(i);
    }
  }

  double interval_s(size_t i) const { return stamps_s_[i + 1] - stamps_s_[i]; }

  // Adds a sample to each series: the sum of the step's intervals whose series it is.
  template <size_t kSeries, class SeriesOf>
  void add_intervals(std::array<std::vector<double>, kSeries>& all, SeriesOf series_of) {
    for (std::vector<double>& series : all) series.push_back(0);
    for (size_t i = 0; i + 1 < stamps_s_.size(); ++i) all[series_of(i)].back() += interval_s(i);
  }

  // Smaller shifts than half the wanted precision do not count.
  Steadiness steadiness() const { return find_steady_state(samples_.step_s, options_.relative_half_width / 2); }

  bool is_precise() const {
    const Steadiness found = steadiness();
    if (!found.steady) return false;
    const auto narrow = [&](std::span<const double> series) {
      return is_narrow(series.subspan(found.warmup), options_.relative_half_width);
    };
    const std::span<const double> forward_s = samples_.of(Pass::kForward);
    const std::span<const double> backward_s = samples_.of(Pass::kBackward);
    const auto ratios = paired_ratios(backward_s, forward_s);
    return narrow(samples_.step_s) && narrow(forward_s) && narrow(backward_s) && (!ratios || narrow(*ratios));
  }

  // Whether more steps may give the intervals that these lack. Asked once, or it would wait for a fluke.
  bool wants_more() const {
    const auto known = [](std::span<const double> series) { return median_interval(series).has_value(); };
    return wanted_ == options_.min_samples && samples_.step_s.size() < wanted_ + options_.more_samples &&
           !(known(samples_.step_s) && std::ranges::all_of(samples_.pass_s, known));
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
    for (std::vector<double>& series : samples_.pass_s) drop_first(series, warmup);
    const size_t phased = count_before(phased_after_);
    for (std::vector<double>& series : samples_.phase_s) drop_first(series, phased);
    for (Samples::Layer& item : samples_.layers) drop_first(item.s, layered);
    drop_first(samples_.layered_step_s, layered);
    drop_first(samples_.unmarked_step_s, unmarked);
    drop_first(samples_.unmarked_neighbour, unmarked);
    for (size_t& position : samples_.unmarked_neighbour) position -= warmup;
    samples_.warmup_steps += warmup + layered + unmarked + (main_ == Marks::kPhases ? 0 : phased);
  }

  StepSource& source_;
  const SampleOptions options_;
  const double untimed_before_s_ = source_.untimed_s();
  size_t wanted_ = options_.min_samples;  // of step_s, even beyond the budget
  Marks main_ = Marks::kPhases;           // of the steps of step_s
  std::span<const Marks> pattern_ = kPattern;
  std::array<std::vector<Segment>, kKindsOfMarks> segments_;  // by Marks
  std::vector<size_t> layer_slots_;  // for each segment with layer marks, its index in samples_.layers
  // For each step of the other kinds, how many of step_s ran before it.
  std::vector<size_t> layered_after_, phased_after_, unmarked_after_;
  std::vector<double> stamps_s_;
  Samples samples_;
};

}  // namespace

Samples sample(StepSource& source, const SampleOptions& options, const Progress& progress) {
  return Sampler(source, options).run(progress);
}

std::vector<double> backward_and_update_s(const Samples& samples) {
  std::vector<double> sums(samples.step_s.size());
  std::ranges::transform(samples.of(Pass::kBackward), samples.of(Pass::kUpdate), sums.begin(), std::plus());
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

std::optional<double> layer_marking_overhead(const Samples& samples) {
  const auto marked_s = median(samples.layered_step_s);
  const auto unmarked_s = median(samples.unmarked_step_s);
  if (!marked_s || !unmarked_s || !(*unmarked_s > 0)) return std::nullopt;
  return *marked_s / *unmarked_s;
}

}  // namespace triphase
