// SPDX-License-Identifier: Apache-2.0
#include "backends/onednn/onednn.h"

#include "backends/onednn/plan.h"
#include "backends/onednn/probes.h"

namespace triphase {
namespace {

std::string isa_name() {
  switch (dnnl::get_effective_cpu_isa()) {
    case dnnl::cpu_isa::sse41:
      return "sse4.1";
    case dnnl::cpu_isa::avx:
      return "avx";
    case dnnl::cpu_isa::avx2:
      return "avx2";
    case dnnl::cpu_isa::avx2_vnni:
      return "avx2_vnni";
    case dnnl::cpu_isa::avx2_vnni_2:
      return "avx2_vnni_2";
    case dnnl::cpu_isa::avx512_core:
      return "avx512_core";
    case dnnl::cpu_isa::avx512_core_vnni:
      return "avx512_core_vnni";
    case dnnl::cpu_isa::avx512_core_bf16:
      return "avx512_core_bf16";
    case dnnl::cpu_isa::avx512_core_fp16:
      return "avx512_core_fp16";
    case dnnl::cpu_isa::avx512_core_amx:
      return "avx512_core_amx";
    case dnnl::cpu_isa::avx512_core_amx_fp16:
      return "avx512_core_amx_fp16";
    default:
      return "default";
  }
}

class OnednnBackend : public Backend {
 public:
  std::string name() const override { return "onednn"; }

  std::vector<std::pair<std::string, std::string>> versions() const override {
    const dnnl_version_t* version = dnnl_version();
    return {{"onednn", std::to_string(version->major) + "." + std::to_string(version->minor) + "." +
                           std::to_string(version->patch)},
            {"onednn_isa", isa_name()}};
  }

  std::variant<std::unique_ptr<Plan>, Unsupported> compile(const StepProgram& program,
                                                           const CompileOptions& options) override {
    if (program.precision != Precision::kF32 && program.precision != Precision::kBF16) {
      return Unsupported{"the onednn backend computes in f32 and bf16, not in " +
                         std::string(to_string(program.precision))};
    }
    try {
      return std::make_unique<OnednnPlan>(program, options);
    } catch (const Unimplemented& what) {
      return Unsupported{std::string("oneDNN backend: no way to run ") + what.what()};
    } catch (const dnnl::error& error) {
      if (error.status == dnnl_unimplemented) return Unsupported{std::string("oneDNN: ") + error.what()};
      throw VendorError(std::string("oneDNN: ") + error.what() + " (status " + std::to_string(error.status) + ")");
    }
  }

  std::vector<ProbeGroup> probes(int threads) override { return onednn_probes(threads); }
  ProbeGroup gauge(int threads) override { return onednn_gauge(threads); }
  std::optional<double> memory_bytes_per_s(int threads) override { return onednn_memory_bytes_per_s(threads); }
};

}  // namespace

std::unique_ptr<Backend> make_onednn_backend() { return std::make_unique<OnednnBackend>(); }

}  // namespace triphase
