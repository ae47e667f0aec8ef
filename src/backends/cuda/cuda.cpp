// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/cuda.h"

#include "backends/cuda/gpu.h"
#include "backends/cuda/plan.h"

namespace triphase {
namespace {

class CudaBackend : public Backend {
 public:
  CudaBackend(std::shared_ptr<cuda::Device> device, cuda::GpuInfo info)
      : device_(std::move(device)), info_(std::move(info)) {}

  std::string name() const override { return "cuda"; }

  std::vector<std::pair<std::string, std::string>> versions() const override {
    return {{"gpu", info_.name},
            {"gpu_compute_capability", std::to_string(info_.major) + "." + std::to_string(info_.minor)},
            {"gpu_multiprocessors", std::to_string(info_.multiprocessors)},
            {"gpu_memory_bytes", std::to_string(info_.memory_bytes)},
            {"gpu_l2_bytes", std::to_string(info_.l2_bytes)},
            {"cuda_driver", info_.driver},
            {"cuda_runtime", info_.runtime},
            {"cublaslt", info_.cublaslt},
            {"cudnn", info_.cudnn}};
  }

  std::variant<std::unique_ptr<Plan>, Unsupported> compile(const StepProgram& program, const CompileOptions&) override {
    try {
      return std::make_unique<cuda::CudaPlan>(program, device_);
    } catch (const Unimplemented& what) {
      return Unsupported{std::string("CUDA backend: no way to run ") + what.what()};
    }
  }

  std::optional<int64_t> free_bytes() const override { return device_->free_bytes(); }

 private:
  std::shared_ptr<cuda::Device> device_;
  cuda::GpuInfo info_;
};

}  // namespace

std::variant<std::unique_ptr<Backend>, Unsupported> make_cuda_backend() {
  auto gpu = cuda::make_gpu();
  if (auto* why = std::get_if<Unsupported>(&gpu)) return std::move(*why);
  auto info = cuda::gpu_info();
  if (auto* why = std::get_if<Unsupported>(&info)) return std::move(*why);
  return std::make_unique<CudaBackend>(std::move(std::get<std::unique_ptr<cuda::Device>>(gpu)),
                                       std::move(std::get<cuda::GpuInfo>(info)));
}

}  // namespace triphase
