// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/cuda.h"

#include "backends/cuda/gpu.h"
#include "backends/cuda/plan.h"
#include "backends/cuda/probes.h"

namespace triphase {
namespace {

class CudaBackend : public Backend {
 public:
  explicit CudaBackend(std::shared_ptr<cuda::Device> device) : device_(std::move(device)) {}

  std::string name() const override { return "cuda"; }

  std::vector<std::pair<std::string, std::string>> versions() const override {
    const auto found = cuda::gpu_info();
    const auto* info = std::get_if<cuda::GpuInfo>(&found);
    if (info == nullptr) return {};  // the device was lost
    return {{"gpu", info->name},
            {"gpu_compute_capability", std::to_string(info->major) + "." + std::to_string(info->minor)},
            {"gpu_multiprocessors", std::to_string(info->multiprocessors)},
            {"gpu_memory_bytes", std::to_string(info->memory_bytes)},
            {"gpu_l2_bytes", std::to_string(info->l2_bytes)},
            {"cuda_driver", info->driver},
            {"cuda_runtime", info->runtime},
            {"cublaslt", info->cublaslt},
            {"cudnn", info->cudnn},
            {"nvrtc", info->nvrtc}};
  }

  std::variant<std::unique_ptr<Plan>, Unsupported> compile(const StepProgram& program,
                                                           const CompileOptions& options) override {
    try {
      return std::make_unique<cuda::CudaPlan>(program, device_, options.formulation);
    } catch (const Unimplemented& what) {
      return Unsupported{std::string("CUDA backend: no way to run ") + what.what()};
    }
  }

  std::optional<int64_t> free_bytes() const override { return device_->free_bytes(); }
  int computing_threads(int) const override { return 1; }
  std::vector<ProbeGroup> probes(int) override { return cuda::probes(device_); }
  std::optional<double> memory_bytes_per_s(int) override { return cuda::memory_bytes_per_s(device_); }

 private:
  std::shared_ptr<cuda::Device> device_;
};

}  // namespace

std::variant<std::unique_ptr<Backend>, Unsupported> make_cuda_backend() {
  auto gpu = cuda::the_gpu();
  if (auto* why = std::get_if<Unsupported>(&gpu)) return std::move(*why);
  return std::make_unique<CudaBackend>(std::move(std::get<std::shared_ptr<cuda::Device>>(gpu)));
}

}  // namespace triphase
