// SPDX-License-Identifier: Apache-2.0
// Convolutions that run: plans of a ConvolutionGraph are tried, and the fastest kept.
#include "backends/cuda/cudnn.h"

#include <algorithm>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "backends/cuda/cudnn_graph.h"
#include "backends/cuda/status.h"
#include "core/error.h"

namespace triphase::cuda {
namespace {

namespace fe = cudnn_frontend;

constexpr int kTimedRuns = 4;  // in a row
constexpr int kRounds = 3;
constexpr double kClearlySlower = 2;  // than the fastest so far: not tried again
constexpr double kLongRun_s = 1e-3;   // of which a launch is no part to speak of
constexpr int64_t kMostZeros = 1 << 16;

}  // namespace

// --- A convolution that is ready to run ---------------------------------------------------------

struct Cudnn::Session {
  cudaStream_t stream;
  cudnnHandle_t handle = nullptr;
  std::map<std::string, std::string> chosen;  // plans' names, by the convolution's description

  explicit Session(cudaStream_t on) : stream(on) {
    open_cudnn();
    check(fe::detail::create_handle(&handle), "cudnnCreate");
    const cudnnStatus_t status = fe::detail::set_stream(handle, stream);
    if (status != CUDNN_STATUS_SUCCESS) fe::detail::destroy_handle(handle);
    check(status, "cudnnSetStream");
  }
  ~Session() { fe::detail::destroy_handle(handle); }

  // As many as kMostZeros, of any type.
  std::byte* zeros() {
    if (zeros_ == nullptr) {
      constexpr size_t kBytes = kMostZeros * sizeof(float);
      void* data = nullptr;
      check(cudaMalloc(&data, kBytes), "cudaMalloc");
      Owned<std::byte*, cudaFree> zeros(static_cast<std::byte*>(data));
      check(cudaMemsetAsync(data, 0, kBytes, stream), "cudaMemsetAsync");
      zeros_ = std::move(zeros);
    }
    return zeros_.get();
  }

  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

 private:
  Owned<std::byte*, cudaFree> zeros_;
};

class Cudnn::Prepared : public Call<ConvolutionOperands> {
 public:
  Prepared(std::shared_ptr<Session> session, const Convolution& convolution)
      : session_(std::move(session)), graph_(convolution, session_->handle), plans_(graph_.plans()) {
    if (!graph_.takes_zero_bias()) return;
    if (convolution.y[1] > kMostZeros) throw Unimplemented(graph_.description() + ": too many channels for one call");
    zeros_ = session_->zeros();
  }

  std::string implementation() const override { return "cudnn:" + plans_.front().name; }

  int64_t workspace_bytes() const override {
    int64_t most = 0;
    for (const ConvolutionPlan& plan : plans_) most = std::max(most, plan.workspace_bytes);
    return most;
  }

  // As the step will run them: captured, so that what a launch costs the host does not count. Plans take turns, so that
  // the clocks' rise at the start favours none. Of long runs one tells which plans are hopeless.
  void tune(const ConvolutionOperands& operands, std::byte* workspace) override {
    std::string& chosen = session_->chosen[graph_.description()];
    if (const auto known = std::ranges::find(plans_, chosen, &ConvolutionPlan::name); known != plans_.end()) {
      plans_ = {*known};
      return;
    }
    const Event begin = make_event();
    const Event end = make_event();
    const auto seconds_of = [&](auto put_on_stream) {
      check(cudaEventRecord(begin.get(), session_->stream), "cudaEventRecord");
      put_on_stream();
      check(cudaEventRecord(end.get(), session_->stream), "cudaEventRecord");
      check(cudaEventSynchronize(end.get()), "cudaEventSynchronize");
      return seconds_between(begin, end);
    };

    struct Candidate {
      ConvolutionPlan plan;
      Graph runs;
      double fastest_s = std::numeric_limits<double>::infinity();
    };
    std::vector<Candidate> candidates;
    std::string failure;
    double fastest_s = std::numeric_limits<double>::infinity();  // of one run, and its launch
    for (const ConvolutionPlan& plan : plans_) {
      const auto run_plan = [&] { run(plan, operands, workspace); };
      try {
        seconds_of(run_plan);  // loads its kernels
        const double once_s = seconds_of(run_plan);
        if (once_s >= kLongRun_s && once_s > kClearlySlower * fastest_s) continue;
        candidates.push_back({plan, capture(session_->stream, [&] {
                                for (int r = 0; r < kTimedRuns; ++r) run_plan();
                              })});
        fastest_s = std::min(fastest_s, once_s);
      } catch (const DeviceLost&) {
        throw;
      } catch (const VendorError& error) {
        failure = plan.name + ": " + error.what();
        check(cudaStreamSynchronize(session_->stream), "cudaStreamSynchronize");  // or the device is to blame
      }
    }
    if (candidates.empty())
      throw VendorError(graph_.description() + ": none of cuDNN's plans runs; the last, " + failure);

    fastest_s = std::numeric_limits<double>::infinity();
    for (int round = 0; round < kRounds; ++round) {
      for (Candidate& candidate : candidates) {
        if (round > 0 && candidate.fastest_s > kClearlySlower * fastest_s) continue;
        const double runs_s =
            seconds_of([&] { check(cudaGraphLaunch(candidate.runs.get(), session_->stream), "cudaGraphLaunch"); });
        candidate.fastest_s = std::min(candidate.fastest_s, runs_s);
        fastest_s = std::min(fastest_s, candidate.fastest_s);
      }
    }
    plans_ = {std::ranges::min_element(candidates, {}, &Candidate::fastest_s)->plan};
    chosen = plans_.front().name;
  }

  void run(const ConvolutionOperands& operands, std::byte* workspace) override {
    run(plans_.front(), operands, workspace);
  }

 private:
  void run(const ConvolutionPlan& plan, const ConvolutionOperands& operands, std::byte* workspace) const {
    const auto& [x, w, y, bias] = operands;
    graph_.run(plan, session_->handle, {x, w, y, zeros_ != nullptr ? zeros_ : bias}, workspace);
  }

  std::shared_ptr<Session> session_;
  ConvolutionGraph graph_;
  std::vector<ConvolutionPlan> plans_;
  std::byte* zeros_ = nullptr;  // in the place of a bias, where the graph wants them
};

// --- Outside ------------------------------------------------------------------------------------

Cudnn::Cudnn(cudaStream_t stream) : session_(std::make_shared<Session>(stream)) {}

std::string Cudnn::version() const { return fe::detail::get_backend_version_string(); }

std::unique_ptr<Call<ConvolutionOperands>> Cudnn::prepare(const Convolution& convolution) {
  return std::make_unique<Prepared>(session_, convolution);
}

}  // namespace triphase::cuda
