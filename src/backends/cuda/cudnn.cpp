// SPDX-License-Identifier: Apache-2.0
// Convolutions that run: plans of a ConvolutionGraph are tried, and the fastest kept.
#include "backends/cuda/cudnn.h"

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "backends/cuda/cudnn_graph.h"
#include "backends/cuda/status.h"
#include "backends/cuda/tuning.h"
#include "core/error.h"

namespace triphase::cuda {
namespace {

namespace fe = cudnn_frontend;

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

  void tune(const ConvolutionOperands& operands, std::byte* workspace) override {
    std::string& chosen = session_->chosen[graph_.description()];
    const auto known = std::ranges::find(plans_, chosen, &ConvolutionPlan::name);
    const auto best = known != plans_.end() ? *known : fastest_plan(operands, workspace);
    plans_ = {best};
    chosen = best.name;
  }

  void run(const ConvolutionOperands& operands, std::byte* workspace) override {
    run(plans_.front(), operands, workspace);
  }

 private:
  ConvolutionPlan fastest_plan(const ConvolutionOperands& operands, std::byte* workspace) const {
    std::vector<Piece> ways;
    for (const ConvolutionPlan& plan : plans_) ways.push_back([&] { run(plan, operands, workspace); });
    return plans_[fastest(session_->stream, ways, graph_.description() + ": none of cuDNN's plans runs")];
  }
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

std::string cudnn_version() {
  open_cudnn();
  return fe::detail::get_backend_version_string();
}

std::unique_ptr<Call<ConvolutionOperands>> Cudnn::prepare(const Convolution& convolution) {
  return std::make_unique<Prepared>(session_, convolution);
}

}  // namespace triphase::cuda
