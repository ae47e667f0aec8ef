// SPDX-License-Identifier: Apache-2.0
// What the real cuDNN says of the graphs that convolutions become, asked without a GPU for ones whose properties are
// told: it has plans for every convolution of the networks, in every precision. That they compute what they should
// takes a GPU. Skipped where cuDNN is not installed.
#include "backends/cuda/cudnn_graph.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <set>

#include "backends/cuda/host_device.h"
#include "backends/cuda/library.h"
#include "backends/cuda/plan.h"
#include "core/error.h"
#include "model/files.h"
#include "networks.h"
#include "program/precision.h"

namespace triphase::cuda {
namespace {

struct Gpu {
  std::string name;
  int version;  // compute capability, in hundredths
  int processors;
  int64_t cache_bytes;
  int shared_bytes;  // that a block may ask for
};

void PrintTo(const Gpu& gpu, std::ostream* out) { *out << gpu.name; }

// Of NVIDIA's data sheets and the CUDA C++ Programming Guide's table of compute capabilities.
const Gpu kGpus[] = {{"A100", 800, 108, 40 << 20, 163 << 10},
                     {"H100", 900, 132, 50 << 20, 227 << 10},
                     {"B200", 1000, 148, 126 << 20, 227 << 10}};

// As cuDNN writes the properties of a device.
std::string properties_of(const Gpu& gpu) {
  return nlohmann::json{{"deviceName", gpu.name},
                        {"deviceVer", gpu.version},
                        {"multiProcessorCount", gpu.processors},
                        {"l2CacheSize", gpu.cache_bytes},
                        {"maxSharedMemoryPerBlockOptin", gpu.shared_bytes},
                        {"maxSharedMemoryPerBlock", 48 << 10},
                        {"reservedSharedMemoryPerBlock", 1 << 10},
                        {"maxGridSize", {2147483647, 65535, 65535}},
                        {"maxBlockSize", {1024, 1024, 64}},
                        {"maxThreadsPerBlock", 1024},
                        {"maxThreadsPerSM", 2048},
                        {"maxCtasPerSM", 32},
                        {"maxRegistersPerSM", 65536},
                        {"regsPerBlock", 65536},
                        {"warpSize", 32},
                        {"smClockRateKHz", 1'500'000},
                        {"memClockRateKHz", 2'000'000},
                        {"totalGlobalMem", int64_t{80} << 30},
                        {"supportCoopLaunch", 1},
                        {"isTccDriver", 0},
                        {"pciDeviceId", 0},
                        {"cudaDeviceId", 0},
                        {"driverVer", 13000}}
      .dump();
}

// Keeps what plans ask a device for.
class Collector : public HostDevice {
 public:
  using HostDevice::prepare;
  std::unique_ptr<Call<ConvolutionOperands>> prepare(const Convolution& convolution) override {
    convolutions.push_back(convolution);
    return HostDevice::prepare(convolution);
  }

  std::vector<Convolution> convolutions;
};

std::vector<Convolution> convolutions_of(const Network& network, int64_t batch, Precision precision) {
  const auto device = std::make_shared<Collector>();
  const CudaPlan plan(with_precision(lower(network, batch, Sgd{}), precision), device, std::nullopt);
  return device->convolutions;
}

using GpuAndPrecision = std::tuple<Gpu, std::pair<Precision, std::string_view>>;

class RealCudnn : public testing::TestWithParam<GpuAndPrecision> {
 protected:
  void SetUp() override {
    try {
      open_cudnn();
    } catch (const LibraryMissing& missing) {
      GTEST_SKIP() << missing.what();
    }
    const std::string properties = properties_of(gpu());
    auto error = gpu_->deserialize({properties.begin(), properties.end()});
    if (error.is_bad()) GTEST_SKIP() << "this cuDNN reads other properties of a device: " << error.get_message();
  }

  static const Gpu& gpu() { return std::get<0>(GetParam()); }
  static Precision precision() { return std::get<1>(GetParam()).first; }

  std::vector<std::string> plans_of(const Convolution& convolution) const {
    std::vector<std::string> names;
    const ConvolutionGraph graph(convolution, nullptr, gpu_);
    for (const ConvolutionPlan& plan : graph.plans()) {
      EXPECT_GE(plan.workspace_bytes, 0) << graph.description();
      names.push_back(plan.name);
    }
    return names;
  }

  // Every one has plans, with its bias and ReLU too where it has them, none twice, and of eight not all by one engine.
  // Gives how many have a ReLU.
  int expect_plans(const std::vector<Convolution>& convolutions) const {
    int fused = 0;
    for (const Convolution& convolution : convolutions) {
      try {
        const std::vector<std::string> names = plans_of(convolution);
        EXPECT_EQ(std::set(names.begin(), names.end()).size(), names.size());
        std::set<std::string> engines;
        for (const std::string& name : names) engines.insert(name.substr(0, name.find('_')));
        EXPECT_GT(engines.size(), names.size() < 8 ? 0 : 1) << names.front();
        fused += does_relu(convolution.epilogue);
      } catch (const Unimplemented& why) {
        ADD_FAILURE() << why.what();
      }
    }
    return fused;
  }

 private:
  std::shared_ptr<cudnn_frontend::DeviceProperties> gpu_ = std::make_shared<cudnn_frontend::DeviceProperties>();
};

TEST_P(RealCudnn, has_plans_for_every_convolution_of_the_networks) {
  for (const auto& [model, batch] : {std::pair{"ConvNet", 64}, std::pair{"ResNet18", 16}}) {
    const Network network = load_network(parse_model_spec(model), TRIPHASE_SOURCE_DIR "/benchmarks/models");
    const std::vector<Convolution> convolutions = convolutions_of(network, batch, precision());
    EXPECT_GE(convolutions.size(), 6) << model;
    const int fused = expect_plans(convolutions);
    EXPECT_TRUE(fused > 0 || network.name != "ConvNet") << "convolutions with their ReLU in one call";
  }
}

// Those that tests run on a GPU: grouped, dilated, with odd numbers of channels.
TEST_P(RealCudnn, has_plans_for_every_convolution_of_the_small_networks) {
  for (const NamedNetwork& named : small_networks()) {
    expect_plans(convolutions_of(network_from(named.json), 4, precision()));
  }
}

// What is best in TF32 is not offered in f32, however the images lie.
class RealCudnnInF32 : public RealCudnn {};
TEST_P(RealCudnnInF32, leaves_out_tensor_cores) {
  const Conv2d conv{{.kernel = {3, 3}, .padding = {1, 1}}};
  Convolution convolution{.conv = conv, .x = {16, 64, 56, 56}, .w = {64, 64, 3, 3}, .y = {16, 64, 56, 56}};
  convolution.channels_last = true;
  const std::vector<std::string> f32 = plans_of(convolution);
  convolution.precision = Precision::kTF32;
  EXPECT_THAT(f32, testing::Not(testing::Contains(plans_of(convolution).front())));
}

std::string name_of(const testing::TestParamInfo<GpuAndPrecision>& test) {
  return std::get<0>(test.param).name + "_" + std::string(std::get<1>(test.param).second);
}
INSTANTIATE_TEST_SUITE_P(Gpus, RealCudnn, testing::Combine(testing::ValuesIn(kGpus), testing::ValuesIn(kPrecisions)),
                         name_of);
INSTANTIATE_TEST_SUITE_P(Gpus, RealCudnnInF32,
                         testing::Combine(testing::ValuesIn(kGpus), testing::Values(kPrecisions[0])), name_of);

}  // namespace
}  // namespace triphase::cuda
