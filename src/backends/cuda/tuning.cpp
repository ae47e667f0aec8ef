// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/tuning.h"

#include <algorithm>
#include <exception>
#include <limits>
#include <utility>

#include "backends/cuda/status.h"

namespace triphase::cuda {
namespace {

constexpr double kHopeless = 2;     // times the fastest
constexpr double kLong_s = 1e-3;    // a run, of which its launch is no part to speak of
constexpr int kRunsOfShort = 10;    // in a graph
constexpr double kEnough_s = 0.02;  // of all
constexpr int kMostRounds = 5;

struct Trial {
  size_t way = 0;
  double least_s = 0;  // of one run, with its launch or as part of a graph
  int runs = 1;
  Graph graph;  // of so many
};

double least_of(const std::vector<Trial>& trials) {
  double least_s = std::numeric_limits<double>::infinity();
  for (const Trial& trial : trials) least_s = std::min(least_s, trial.least_s);
  return least_s;
}

[[noreturn]] void rethrow(const std::exception_ptr& failure, const std::string& begin) {
  try {
    std::rethrow_exception(failure);
  } catch (const OutOfMemory& full) {
    throw OutOfMemory(begin + full.what());
  } catch (const std::exception& error) {
    throw VendorError(begin + error.what());
  }
}

}  // namespace

size_t fastest(cudaStream_t stream, const std::vector<Piece>& ways, const std::string& none) {
  const Event begin = make_event();
  const Event end = make_event();
  const auto between_events = [&](unsigned flags, const Piece& piece) {
    check(cudaEventRecordWithFlags(begin.get(), stream, flags), "cudaEventRecordWithFlags");
    piece();
    check(cudaEventRecordWithFlags(end.get(), stream, flags), "cudaEventRecordWithFlags");
  };
  const auto wait = [&] {
    check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    return seconds_between(begin, end);
  };
  const auto launched_s = [&](const Piece& way) {
    between_events(cudaEventRecordDefault, way);
    return wait();
  };
  const auto replayed_s = [&](const Graph& graph) {
    check(cudaGraphLaunch(graph.get(), stream), "cudaGraphLaunch");
    return wait();
  };
  std::vector<Trial> trials;
  std::exception_ptr failure;
  for (size_t way = 0; way < ways.size(); ++way) {
    const auto try_out = [&] {
      launched_s(ways[way]);  // loads its kernels
      const double once_s = launched_s(ways[way]);
      if (once_s >= kLong_s && once_s > kHopeless * least_of(trials)) return;
      const int runs = once_s < kLong_s ? kRunsOfShort : 1;
      const auto so_often = [&] {
        for (int run = 0; run < runs; ++run) ways[way]();
      };
      const auto record = [&] { between_events(cudaEventRecordExternal, so_often); };
      trials.push_back({way, once_s, runs, capture(stream, record)});
    };
    if (succeeds(try_out, failure)) continue;
    check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");  // or the device is to blame
  }
  if (trials.empty()) rethrow(failure, none + "; the last: ");
  double spent_s = least_of(trials);
  for (int round = 0; round < kMostRounds && spent_s < kEnough_s; ++round) {
    for (Trial& trial : trials) {
      const double graph_s = replayed_s(trial.graph);
      const double run_s = graph_s / trial.runs;
      trial.least_s = round == 0 ? run_s : std::min(trial.least_s, run_s);
      spent_s += graph_s;
    }
  }
  return std::ranges::min_element(trials, {}, &Trial::least_s)->way;
}

}  // namespace triphase::cuda
