// SPDX-License-Identifier: Apache-2.0
// The sampler is measured itself: a source whose clock is simulated and whose times have known medians is read back.
#include "measure/sampler.h"

#include <gmock/gmock.h>

#include <cmath>

#include "measure/summary.h"
#include "stats/interval.h"
#include "stats/noise.h"
#include "stats/order.h"

namespace triphase {
namespace {

using testing::Each;
using testing::IsEmpty;
using testing::SizeIs;

// Forward 1, backward 2 (half data, half weights) and update 0.5 time units a step, over two layers. The whole step is
// multiplied by level(step) and by autocorrelated noise, each phase by its own independent noise. Marks cost time.
struct FakeSource : StepSource {
  double unit_s = 1e-3;
  double noise = 0.02;  // of phases; of steps as well
  double phi = 0;
  double phase_mark_cost = 0;  // relative
  uint64_t seed = 0;
  std::function<double(int)> level = [](int) { return 1.0; };

  std::vector<Marks> history;
  double now_s = 1000;

  static inline const std::vector<Segment> kWhole = {{}};
  static inline const std::vector<Segment> kByPass = {
      {-1, Phase::kForward}, {-1, Phase::kBackwardData}, {-1, Phase::kUpdate}};
  static inline const std::vector<Segment> kByPhase = {{-1, Phase::kForward},      {-1, Phase::kBackwardWeights},
                                                       {-1, Phase::kBackwardData}, {-1, Phase::kBackwardWeights},
                                                       {-1, Phase::kBackwardData}, {-1, Phase::kUpdate}};
  static inline const std::vector<Segment> kByLayer = {
      {0, Phase::kForward},         {1, Phase::kForward},      {1, Phase::kBackwardWeights}, {1, Phase::kBackwardData},
      {0, Phase::kBackwardWeights}, {0, Phase::kBackwardData}, {0, Phase::kUpdate},          {1, Phase::kUpdate}};

  std::span<const Segment> segments(Marks marks) const override {
    if (marks == Marks::kPasses) return kByPass;
    return marks == Marks::kNone ? kWhole : marks == Marks::kPhases ? kByPhase : kByLayer;
  }

  // The phase's time in a step of its own number, before marks cost anything.
  double phase_time_s(int step, Phase phase) const {
    constexpr std::array kUnits = {1.0, 1.0, 1.0, 0.5};
    const auto p = static_cast<size_t>(phase);
    const double own = random_normal(random_stream("phase", seed), 4 * static_cast<uint64_t>(step) + p);
    return unit_s * kUnits[p] * level(step) * (1 + noise * own) * (1 + noise * common_[static_cast<size_t>(step)]);
  }

  void run_step(Marks marks, std::vector<double>& stamps_s) override {
    if (common_.empty()) common_ = autoregressive(seed, 40000, phi);
    const int step = static_cast<int>(history.size());
    history.push_back(marks);
    stamps_s.assign(1, now_s);
    const double cost = marks == Marks::kPhases ? 1 + phase_mark_cost : 1;
    if (marks == Marks::kNone) {
      for (const Phase phase : kAllPhases) now_s += phase_time_s(step, phase);
      stamps_s.push_back(now_s);
    } else {
      for (const Segment& segment : segments(marks)) {
        const bool whole =
            marks == Marks::kPhases && (segment.phase == Phase::kForward || segment.phase == Phase::kUpdate);
        now_s += cost * phase_time_s(step, segment.phase) * (whole ? 1 : 0.5);
        stamps_s.push_back(now_s);
      }
    }
  }

 private:
  std::vector<double> common_;
};

bool contains(const std::optional<Interval>& interval, double value) {
  return interval && interval->low <= value && value <= interval->high;
}

TEST(Sampler, Intervals_that_interleave_are_summed_and_pairing_is_exact) {
  FakeSource source;
  const Samples samples = sample(source, {}, {});
  std::vector<int> marked;  // the steps with phase marks that were kept
  for (int i = 0; i < static_cast<int>(source.history.size()); ++i) {
    if (source.history[static_cast<size_t>(i)] == Marks::kPhases) marked.push_back(i);
  }
  marked.erase(marked.begin(), marked.end() - static_cast<std::ptrdiff_t>(samples.step_s.size()));
  for (size_t i = 0; i < marked.size(); ++i) {
    double step_s = 0;
    for (const Phase phase : kAllPhases) {
      const double expected_s = source.phase_time_s(marked[i], phase);
      EXPECT_NEAR(samples.phase_s[static_cast<size_t>(phase)][i], expected_s, 1e-11);
      step_s += expected_s;
    }
    EXPECT_NEAR(samples.step_s[i], step_s, 1e-11);
  }
  ASSERT_THAT(samples.layers, SizeIs(8));
  for (size_t i = 0; i < samples.layered_step_s.size(); ++i) {
    double sum_s = 0;
    for (const Samples::Layer& item : samples.layers) sum_s += item.s.at(i);
    EXPECT_NEAR(sum_s, samples.layered_step_s[i], 1e-11);
  }
}

TEST(Sampler, Stops_when_the_intervals_are_narrow_and_says_what_it_did) {
  FakeSource source;
  source.phi = 0.5;
  const double start_s = source.now_s;
  const Samples samples = sample(source, {.relative_half_width = 0.005}, {});
  EXPECT_EQ(samples.stop_reason, "interval");
  EXPECT_EQ(samples.steady, true);
  EXPECT_GE(samples.measured_s, 0.1);
  EXPECT_NEAR(samples.measured_s, source.now_s - start_s, 1e-9);
  for (const auto& series :
       {std::span<const double>(samples.step_s), samples.of(Pass::kForward), samples.of(Pass::kBackward)}) {
    const auto interval = median_interval(series);
    EXPECT_LE(interval->high - interval->low, 2 * 0.005 * *median(series));
  }
  EXPECT_EQ(
      samples.warmup_steps + samples.step_s.size() + samples.layered_step_s.size() + samples.unmarked_step_s.size(),
      source.history.size());
}

// Warm-up transient, autocorrelated noise, and 5 % of the steps 10 times slower.
TEST(Sampler, Reads_known_medians_back_in_about_95_percent_of_runs) {
  constexpr int kRuns = 400;
  int step = 0;
  int forward = 0;
  int ratio = 0;
  for (uint64_t seed = 0; seed < kRuns; ++seed) {
    FakeSource source;
    source.seed = seed;
    source.phi = 0.5;
    const uint64_t outliers = random_stream("outliers", seed);
    source.level = [&](int i) {
      const bool slow = random_uniform(outliers, static_cast<uint64_t>(i)) < 0.05;
      return (1 + std::exp(-i / 10.0)) * (slow ? 10 : 1);
    };
    const Samples samples = sample(source, {}, {});
    // Outliers only add at the top: the median is where the others have 0.5 / 0.95 of theirs below.
    const double rank = normal_quantile(0.5 / 0.95);
    const double step_noise = 0.02 * std::sqrt(1 + 3.25 / (3.5 * 3.5));
    step += contains(median_interval(samples.step_s), 3.5e-3 * (1 + step_noise * rank));
    forward += contains(median_interval(samples.of(Pass::kForward)), 1e-3 * (1 + 0.02 * std::sqrt(2) * rank));
    ratio += contains(ratio_summary(samples.of(Pass::kBackward), samples.of(Pass::kForward))->ci95, 2);
  }
  EXPECT_GE(step, 0.90 * kRuns);
  EXPECT_GE(forward, 0.92 * kRuns);
  EXPECT_GE(ratio, 0.92 * kRuns);
  RecordProperty("step", step);
  RecordProperty("forward", forward);
  RecordProperty("ratio", ratio);
}

TEST(Sampler, Drops_a_warmup_from_every_series) {
  FakeSource source;
  source.level = [](int i) { return i < 50 ? 2.0 : 1.0; };
  const Samples samples = sample(source, {.minimum_s = 1}, {});
  EXPECT_EQ(samples.steady, true);
  EXPECT_GE(samples.warmup_steps, 50u);
  EXPECT_LE(samples.warmup_steps, 60u);
  EXPECT_THAT(samples.step_s, Each(testing::Lt(5e-3)));
  EXPECT_THAT(samples.layered_step_s, Each(testing::Lt(5e-3)));
  EXPECT_THAT(samples.unmarked_step_s, Each(testing::Lt(5e-3)));
  for (const Samples::Layer& item : samples.layers) EXPECT_EQ(item.s.size(), samples.layered_step_s.size());
}

TEST(Sampler, A_drift_that_never_ends_is_sampled_to_the_budget_and_not_called_steady) {
  FakeSource source;
  source.level = [](int i) { return 1 + i / 500.0; };
  const Samples samples = sample(source, {}, {});
  EXPECT_EQ(samples.stop_reason, "budget");
  EXPECT_EQ(samples.steady, false);
  EXPECT_NEAR(samples.measured_s, 5, 0.05);
}

// By Marks, behind the first runs: the sum of steps' positions, and their number.
struct KindsOfSteps {
  std::array<double, kKindsOfMarks> positions{};
  std::array<int, kKindsOfMarks> counts{};
};
KindsOfSteps kinds_of_steps(const FakeSource& source, size_t first_runs) {
  KindsOfSteps found;
  for (size_t i = first_runs; i < source.history.size(); ++i) {
    found.positions[static_cast<size_t>(source.history[i])] += static_cast<double>(i);
    ++found.counts[static_cast<size_t>(source.history[i])];
  }
  return found;
}

TEST(Sampler, Most_steps_have_phase_marks_and_drift_reaches_all_kinds_alike) {
  FakeSource source;
  source.noise = 0;
  source.level = [](int i) { return 1 + i / 1000.0; };
  // Three first runs, then whole periods of 10 steps.
  const Samples samples = sample(source, {.budget_s = 1e9, .max_samples = 60}, {});
  EXPECT_EQ(samples.stop_reason, "max_samples");
  const auto [positions, counts] = kinds_of_steps(source, 3);
  EXPECT_EQ(counts, (std::array{20, 0, 60, 20}));
  EXPECT_EQ(positions[0] / 20, positions[2] / 60);
  EXPECT_EQ(positions[3] / 20, positions[2] / 60);
}

// Every interval ends with a mark that takes a tenth of the forward's time.
struct SourceWithCostlyMarks : FakeSource {
  bool marks_cost_time() const override { return true; }
  void run_step(Marks marks, std::vector<double>& stamps_s) override {
    const int step = static_cast<int>(history.size());
    FakeSource::run_step(marks, stamps_s);
    stamps_s.assign(1, now_s);
    for (const Segment& segment : segments(marks)) {
      for (const Phase phase : kAllPhases) {
        const bool whole =
            marks == Marks::kNone || (marks == Marks::kPasses && pass_of(phase) == pass_of(segment.phase));
        if (whole || phase == segment.phase) now_s += phase_time_s(step, phase) * (whole ? 1 : share(marks, phase));
      }
      if (segments(marks).size() > 1) now_s += 0.1 * unit_s;
      stamps_s.push_back(now_s);
    }
  }
  // Of a phase's time, that of one of its segments.
  double share(Marks marks, Phase phase) const {
    const auto of_phase = [&](const Segment& segment) { return segment.phase == phase; };
    return 1.0 / static_cast<double>(std::ranges::count_if(segments(marks), of_phase));
  }
};

TEST(Sampler, Where_marks_cost_time_passes_are_compared_by_steps_with_a_mark_each) {
  SourceWithCostlyMarks source;
  source.noise = 0;
  const Samples samples = sample(source, {.budget_s = 1e9, .max_samples = 60}, {});
  EXPECT_NEAR(ratio_summary(samples.of(Pass::kBackward), samples.of(Pass::kForward))->median, 2.1 / 1.1, 1e-9);
  EXPECT_NEAR(*median(samples.of(Pass::kUpdate)), 0.6 * source.unit_s, 1e-12);
  EXPECT_NEAR(*median(samples.step_s), 3.8 * source.unit_s, 1e-12);
  EXPECT_NEAR(*median(backward_and_update_s(samples)), 2.7 * source.unit_s, 1e-12);
  // Marked at every change of phase, the backward is cut into four pieces, and into as many by layers.
  EXPECT_NEAR(*median(samples.of(Phase::kBackwardData)), 1.2 * source.unit_s, 1e-12);
  EXPECT_NEAR(*median(samples.of(Phase::kBackwardWeights)), 1.2 * source.unit_s, 1e-12);
  EXPECT_NEAR(*marking_overhead(samples), 3.8 / 3.5, 1e-9);
  EXPECT_NEAR(*layer_marking_overhead(samples), 4.3 / 3.5, 1e-9);
}

TEST(Sampler, Where_marks_cost_time_drift_reaches_all_kinds_of_steps_alike) {
  SourceWithCostlyMarks source;
  const Samples samples = sample(source, {.budget_s = 1e9, .max_samples = 60}, {});
  EXPECT_EQ(samples.stop_reason, "max_samples");
  const auto [positions, counts] = kinds_of_steps(source, 4);
  EXPECT_EQ(counts, (std::array{20, 60, 20, 20}));
  for (const size_t other : {0u, 2u, 3u}) EXPECT_EQ(positions[other] / 20, positions[1] / 60);
  EXPECT_EQ(samples.warmup_steps + samples.step_s.size() + samples.of(Phase::kForward).size() +
                samples.layered_step_s.size() + samples.unmarked_step_s.size(),
            source.history.size());
}

TEST(Sampler, Where_marks_cost_time_each_kind_has_the_samples_that_were_asked_for) {
  SourceWithCostlyMarks source;
  source.unit_s = 5 / 3.5;
  const Samples samples = sample(source, {.budget_s = 10, .min_samples = 7, .min_layered_samples = 6}, {});
  EXPECT_EQ(samples.stop_reason, "budget");
  EXPECT_THAT(samples.step_s, SizeIs(7));
  EXPECT_THAT(samples.layered_step_s, SizeIs(6));
  EXPECT_THAT(samples.phase_s, Each(SizeIs(6)));
}

TEST(Sampler, Marking_overhead_is_read_back_under_drift) {
  FakeSource source;
  source.noise = 0.001;
  source.phase_mark_cost = 0.03;
  source.level = [](int i) { return 1 + i / 500.0; };
  EXPECT_NEAR(*marking_overhead(sample(source, {}, {})), 1.03, 0.001);
}

TEST(Sampler, Marking_overhead_is_absent_without_pairs) { EXPECT_EQ(marking_overhead({}), std::nullopt); }

TEST(Sampler, Steps_of_half_the_budget_still_give_three_samples_and_a_layered_one) {
  FakeSource source;
  source.unit_s = 5 / 3.5;
  const Samples samples = sample(source, {.budget_s = 10}, {});
  EXPECT_EQ(samples.stop_reason, "budget");
  EXPECT_THAT(samples.step_s, SizeIs(3));
  EXPECT_THAT(samples.layered_step_s, SizeIs(1));
  EXPECT_THAT(samples.unmarked_step_s, IsEmpty());
  EXPECT_EQ(samples.warmup_steps, 1u);
  EXPECT_EQ(samples.steady, std::nullopt);
}

TEST(Sampler, As_many_steps_with_layer_marks_as_asked_are_taken_beyond_the_budget) {
  FakeSource source;
  source.unit_s = 5 / 3.5;
  const Samples samples = sample(source, {.budget_s = 10, .min_samples = 7, .min_layered_samples = 6}, {});
  EXPECT_EQ(samples.stop_reason, "budget");
  EXPECT_THAT(samples.step_s, SizeIs(7));
  EXPECT_THAT(samples.layered_step_s, SizeIs(6));
}

bool has_intervals(const Samples& samples) {
  const auto known = [](std::span<const double> series) { return median_interval(series).has_value(); };
  return known(samples.step_s) && std::ranges::all_of(samples.pass_s, known);
}

// Independent samples, seven of which seem to correlate in many runs.
TEST(Sampler, Where_a_median_has_no_interval_more_steps_are_taken_beyond_the_budget) {
  int known_of_7 = 0;
  int known = 0;
  constexpr int kRuns = 200;
  for (int run = 0; run < kRuns; ++run) {
    SampleOptions options = {.budget_s = 10, .min_samples = 7, .min_layered_samples = 2};
    FakeSource few;
    few.unit_s = 5 / 3.5;
    few.seed = static_cast<uint64_t>(run);
    FakeSource more = few;
    const bool suffices = has_intervals(sample(few, options, {}));
    options.more_samples = 7;
    const Samples samples = sample(more, options, {});
    EXPECT_EQ(samples.stop_reason, "budget");
    EXPECT_EQ(samples.step_s.size() + samples.warmup_steps, suffices ? 8 : 15);
    EXPECT_THAT(samples.layered_step_s, SizeIs(2));
    known_of_7 += suffices;
    known += has_intervals(samples);
  }
  EXPECT_LT(known_of_7, 0.6 * kRuns);
  EXPECT_GT(known, 0.9 * kRuns);
}

TEST(Sampler, Fast_steps_are_sampled_for_the_minimum_time_and_judged_seldom) {
  FakeSource source;
  source.unit_s = 1e-5;
  const Samples samples = sample(source, {}, {});
  EXPECT_EQ(samples.stop_reason, "interval");
  EXPECT_GE(samples.measured_s, 0.1);
  EXPECT_LE(samples.measured_s, 0.1 * 1.35);  // the next look after 0.1 s
}

TEST(Sampler, A_stop_request_ends_it_with_what_it_has) {
  for (const size_t steps : {1u, 2u, 3u, 4u, 25u}) {
    FakeSource source;
    const Samples samples = sample(source, {}, [&](const Samples&) { return source.history.size() < steps; });
    EXPECT_EQ(samples.stop_reason, "interrupted");
    EXPECT_EQ(samples.warmup_steps, std::min<size_t>(steps, 3));
    EXPECT_EQ(source.history.size(), steps);
    EXPECT_EQ(samples.step_s.size() + samples.layered_step_s.size() + samples.unmarked_step_s.size(),
              steps - samples.warmup_steps);
  }
}

TEST(Sampler, What_a_source_throws_is_passed_on) {
  struct Failing : FakeSource {
    void run_step(Marks marks, std::vector<double>& stamps_s) override {
      if (history.size() == 20) throw VendorError("dnnl_primitive_execute: out of memory");
      FakeSource::run_step(marks, stamps_s);
    }
  } source;
  EXPECT_THROW(sample(source, {}, {}), VendorError);
}

}  // namespace
}  // namespace triphase
