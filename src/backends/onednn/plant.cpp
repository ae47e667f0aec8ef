// SPDX-License-Identifier: Apache-2.0
#include "backends/onednn/plant.h"

#include <algorithm>

#include "core/clock.h"

namespace triphase {
namespace {

// One multiplication and one addition that wait for the round before; the compiler may not look through them.
int64_t work(int64_t rounds) {
  uint64_t state = 1;
  int64_t done = 0;
  for (; done < rounds; ++done) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    asm volatile("" : "+r"(state));
  }
  return done;
}

}  // namespace

std::optional<Plant> built_in_plant() {
#ifdef TRIPHASE_PLANT
  const std::string text = TRIPHASE_PLANT;  // configuring has seen to its form
  const size_t first = text.find(':');
  const size_t second = text.find(':', first + 1);
  return Plant{text.substr(0, first), text.substr(first + 1, second - first - 1), std::stod(text.substr(second + 1))};
#else
  return {};
#endif
}

bool slows(const Plant& plant, const StepProgram& program, const Group& group) {
  return std::ranges::any_of(group.ops, [&](int index) {
    const Op& op = program.ops[static_cast<size_t>(index)];
    return to_string(op.phase) == plant.phase && (plant.op == "*" || name_of(op.kind) == plant.op);
  });
}

int64_t planted_rounds(double seconds, int threads) {
  constexpr int64_t kTrial = 100'000;
  constexpr int kTrials = 5;
  const auto seconds_of = [&](int64_t rounds) {
    double least = 1e300;
    for (int trial = 0; trial < kTrials; ++trial) {
      const double begin_s = now_s();
      planted_work(rounds, threads);
      least = std::min(least, now_s() - begin_s);
    }
    return least;
  };
  const double start_s = seconds_of(0);
  const double round_s = std::max(seconds_of(kTrial) - start_s, 1e-9) / static_cast<double>(kTrial);
  return std::max<int64_t>(1, static_cast<int64_t>((seconds - start_s) / round_s));
}

int64_t planted_work(int64_t rounds, int threads) {
  if (threads == 1) return work(rounds);
  int64_t done = 0;
#pragma omp parallel reduction(+ : done) num_threads(threads)
  done += work(rounds);
  return done;
}

}  // namespace triphase
