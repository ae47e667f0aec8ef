// SPDX-License-Identifier: Apache-2.0
// The GPU as a Device: memory, the own kernels' launches, and steps recorded as graphs with events at their marks. All
// runs on one stream of its own. Products are cuBLASLt's, convolutions cuDNN's.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>

#include "backends/cuda/cublaslt.h"
#include "backends/cuda/cudnn.h"
#include "backends/cuda/gpu.h"
#include "backends/cuda/library.h"
#include "backends/cuda/nvml.h"
#include "backends/cuda/status.h"
#include "backends/cuda/tuning.h"
#include "core/memory_size.h"

#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#define TRIPHASE_NVTX
#endif

namespace triphase::cuda {
namespace {

constexpr int kThreads = 256;          // a block
constexpr int64_t kWakingLoads = 100;  // one after the other, from the L1 cache: a few microseconds

using Memory = Owned<std::byte*, cudaFree>;

// --- Kernels ------------------------------------------------------------------------------------

// One copy of the arguments for all threads, where it is: an index into them must not copy them to each.
template <class Index, class Kernel>
__global__ void __launch_bounds__(kThreads) compute(const __grid_constant__ Kernel kernel, Index count) {
  const Index thread = static_cast<Index>(blockIdx.x) * kThreads + static_cast<Index>(threadIdx.x);
  compute_elements(kernel, thread, static_cast<Index>(gridDim.x) * kThreads, count);
}

template <int kTogether, class Index, class Kernel>
__global__ void __launch_bounds__(kReducers)
    reduce(const __grid_constant__ Kernel kernel, Index segments, Index terms) {
  __shared__ typename Kernel::Sum sums[kReducers];
  const int thread = static_cast<int>(threadIdx.x);
  const ReducingBlock<kTogether, Index, Kernel> block{kernel, segments, terms, static_cast<Index>(blockIdx.x), sums};
  block.sum(thread);
  __syncthreads();
  for (int half = block.kOfSegment / 2; half > 0; half /= 2) {
    block.merge(thread, half);
    __syncthreads();
  }
  block.finish(thread);
}

template <class Kernel>
__global__ void __launch_bounds__(Kernel::kThreads) in_stages(const __grid_constant__ Kernel kernel) {
  __shared__ typename Kernel::Shared shared;
  for (int stage = 0; stage < kernel.stages(); ++stage) {
    kernel.run(stage, static_cast<int>(threadIdx.x), shared);
    __syncthreads();
  }
}

// Reads zeros; were they none, it would write, which no compiler can rule out.
__global__ void __launch_bounds__(kThreads) read_zeros(float4* data, int64_t count) {
  const int64_t all_threads = static_cast<int64_t>(gridDim.x) * kThreads;
  float sum = 0;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count; i += all_threads) {
    const float4 value = data[i];
    sum += value.x + value.y + value.z + value.w;
  }
  if (sum != 0) data[0].x = sum;
}

// --- Names --------------------------------------------------------------------------------------

// NVIDIA's profilers show what is launched while it lives under its name; where none listens, it costs next to nothing.
class Range {
 public:
#ifdef TRIPHASE_NVTX
  explicit Range(const char* name) { nvtxRangePushA(name); }
  ~Range() { nvtxRangePop(); }
#else
  explicit Range(const char*) {}
#endif
  Range(const Range&) = delete;
  Range& operator=(const Range&) = delete;
};

// How many blocks of it a multiprocessor runs at a time: one more would wait for all of them.
template <class Function>
int64_t blocks_that_fit(Function* function, int threads) {
  int found = 0;
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&found, function, threads, 0),
        "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
  return std::max(found, 1);
}

// Calls f.operator()<kTogether, Index>() with what reduces so many terms.
template <class Kernel, class Adjacent, class F>
void with_reducer(const Kernel& kernel, int64_t terms, Adjacent adjacent, F f) {
  with_index_type(kernel, terms, [&]<class Index>() {
    with_together(adjacent, [&]<int kTogether>() { f.template operator()<kTogether, Index>(); });
  });
}

// --- Recordings ---------------------------------------------------------------------------------

class GpuRecording : public Recording {
 public:
  // `wake` launches a little work that is in no interval: the GPU was idle, and what starts it up again is no part of
  // the first piece.
  GpuRecording(cudaStream_t stream, Piece wake, const std::vector<Piece>& pieces, bool captured)
      : stream_(stream), wake_(std::move(wake)) {
    for (size_t i = 0; i <= pieces.size(); ++i) events_.push_back(make_event());
    if (captured) {
      wake_();  // what is captured must have been loaded
      graph_ = capture(stream, [&] { launch(pieces, cudaEventRecordExternal); });
    } else {
      pieces_ = pieces;
    }
  }

  void start() override {
    if (graph_) {
      check(cudaGraphLaunch(graph_.get(), stream_), "cudaGraphLaunch");
    } else {
      launch(pieces_, cudaEventRecordDefault);
    }
  }

  void run(std::vector<double>& stamps_s) override {
    start();
    check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
    stamps_s.resize(events_.size());
    stamps_s[0] = 0;
    for (size_t i = 1; i < events_.size(); ++i) stamps_s[i] = seconds_between(events_[0], events_[i]);
  }

 private:
  void launch(const std::vector<Piece>& pieces, unsigned flags) const {
    wake_();
    stamp(0, flags);
    for (size_t i = 0; i < pieces.size(); ++i) {
      pieces[i]();
      stamp(i + 1, flags);
    }
  }
  void stamp(size_t i, unsigned flags) const {
    check(cudaEventRecordWithFlags(events_[i].get(), stream_, flags), "cudaEventRecordWithFlags");
  }

  cudaStream_t stream_;
  Piece wake_;
  std::vector<Event> events_;
  std::vector<Piece> pieces_;  // unless captured
  Graph graph_;                // if captured
};

// --- The device ---------------------------------------------------------------------------------

// Rows of TF32 would hold times of f32.
void refuse_if_overridden(Precision precision) {
  const char* allowed = std::getenv("NVIDIA_TF32_OVERRIDE");
  if (precision == Precision::kTF32 && allowed != nullptr && std::string_view(allowed) == "0") {
    throw Unimplemented("tf32 while NVIDIA_TF32_OVERRIDE=0 makes NVIDIA's libraries compute it in f32: unset that");
  }
}

int attribute(cudaDeviceAttr which) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, 0), "cudaDeviceGetAttribute");
  return value;
}

class Gpu : public Device {
 public:
  Gpu()
      : multiprocessors_(attribute(cudaDevAttrMultiProcessorCount)),
        l2_bytes_(attribute(cudaDevAttrL2CacheSize)),
        stream_(make_stream()) {
    parts_.reset(allocate(kPartsBytes + static_cast<int64_t>(sizeof(uint32_t))));
    std::array<char, 32> bus{};
    check(cudaDeviceGetPCIBusId(bus.data(), bus.size(), 0), "cudaDeviceGetPCIBusId");
    try {
      nvml_.emplace(bus.data());
    } catch (const LibraryMissing&) {
    } catch (const VendorError&) {  // some virtual machines have none: then nothing is told of clocks
    }
  }

  std::byte* allocate(int64_t bytes) override {
    void* data = nullptr;
    const cudaError_t status = cudaMalloc(&data, static_cast<size_t>(std::max<int64_t>(bytes, 1)));
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      throw OutOfMemory("needs " + memory_size(bytes) + " of GPU memory in one piece, of which " +
                        memory_size(free_bytes()) + " are free (" + describe(status, "cudaMalloc") + ")");
    }
    check(status, "cudaMalloc");
    Memory memory(static_cast<std::byte*>(data));
    clear(memory.get(), bytes);
    wait();
    return memory.release();
  }
  void release(std::byte* data) override { Memory(data).reset(); }
  int64_t free_bytes() const override {
    size_t free = 0;
    size_t total = 0;
    check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    return static_cast<int64_t>(free);
  }

  int64_t last_cache_bytes() const override { return l2_bytes_; }

  void write(std::byte* to, const void* from, int64_t bytes) override {
    launch_copy(to, from, bytes, cudaMemcpyHostToDevice);
    wait();
  }
  void read(void* to, const std::byte* from, int64_t bytes) override {
    launch_copy(to, from, bytes, cudaMemcpyDeviceToHost);
    wait();
  }

  void launch(const ElementKernel& kernel, int64_t count) override {
    if (count == 0) return;
    std::visit(
        [&]<class Kernel>(const Kernel& of_elements) {
          with_index_type(of_elements, count, [&]<class Index>() {
            static const int64_t fit = blocks_that_fit(compute<Index, Kernel>, kThreads);
            compute<Index>
                <<<blocks_for(count, fit), kThreads, 0, stream_.get()>>>(of_elements, static_cast<Index>(count));
          });
        },
        kernel);
    check(cudaGetLastError(), "cudaLaunchKernel");
  }
  void launch(const ReductionKernel& kernel, int64_t segments, int64_t terms) override {
    if (segments == 0) return;
    std::visit(
        [&](const auto& of_terms) {
          reduce_in_parts(
              of_terms, segments, terms,
              [&]<class InParts>(std::type_identity<InParts>, auto adjacent) {
                int64_t blocks = 0;
                with_reducer(of_terms, segments * terms, adjacent, [&]<int kTogether, class Index>() {
                  static const int64_t fit = blocks_that_fit(reduce<kTogether, Index, InParts>, kReducers);
                  blocks = fit * multiprocessors_;
                });
                return blocks;
              },
              parts_.get(),
              [this](const auto& each, int64_t of_segments, int64_t of_terms, auto adjacent) {
                run_reduction(each, of_segments, of_terms, adjacent);
              });
        },
        kernel);
  }

  void launch(const BlockKernel& kernel) override {
    std::visit(
        [&]<class Kernel>(const Kernel& of_block) { in_stages<<<1, Kernel::kThreads, 0, stream_.get()>>>(of_block); },
        kernel);
    check(cudaGetLastError(), "cudaLaunchKernel");
  }

  void copy(std::byte* to, const std::byte* from, int64_t bytes) override {
    launch_copy(to, from, bytes, cudaMemcpyDeviceToDevice);
  }

  std::unique_ptr<Call<ProductOperands>> prepare(const Product& product) override {
    refuse_if_overridden(product.precision);
    return cublaslt_.prepare(product, stream_.get());
  }
  std::unique_ptr<Call<ConvolutionOperands>> prepare(const Convolution& convolution) override {
    refuse_if_overridden(convolution.precision);
    try {
      if (!cudnn_) cudnn_.emplace(stream_.get());
    } catch (const LibraryMissing& missing) {
      throw Unimplemented(std::string("a convolution: ") + missing.what());
    }
    return cudnn_->prepare(convolution);
  }

  std::unique_ptr<Recording> record(const std::vector<Piece>& pieces, bool captured) override {
    auto* place = reinterpret_cast<uint32_t*>(parts_.get() + kPartsBytes);
    const auto wake = [this, place] { launch(kernels::Chase{place, place, kWakingLoads}, 1); };
    return std::make_unique<GpuRecording>(stream_.get(), wake, pieces, captured);
  }

  size_t fastest(const std::vector<Piece>& pieces) override {
    return cuda::fastest(stream_.get(), pieces, "no formulation of an operation runs");
  }

  // Libraries have ranges of their own: the outer one is to select by, the mark around the inner one to find it by.
  void run_named(const std::string& name, const Piece& launches) override {
    const Range all("triphase");
    const Range one(("triphase[" + name + "]").c_str());
    launches();
  }

  // An idle device has its clocks up and needs little power, so it is asked in the midst of work, which has gone on for
  // long enough to be seen: an H100 measures its power during a part of each tenth of a second only. While one batch of
  // steps runs, the next is already queued.
  std::optional<DeviceState> state(Recording& work) override {
    if (!nvml_) return {};
    constexpr double kBusy_s = 0.15;
    constexpr double kBatch_s = 0.01;
    constexpr double kMostQueued = 250;  // in a batch; the driver takes some more
    constexpr double kMostBatches = 1000;
    std::vector<double> stamps_s;
    work.run(stamps_s);
    const double step_s = std::max(stamps_s.back(), 1e-9);
    const auto batch = static_cast<int>(std::clamp(kBatch_s / step_s, 1.0, kMostQueued));
    const auto batches = static_cast<int>(std::min(kBusy_s / (batch * step_s), kMostBatches)) + 1;
    const std::array<Event, 2> ends = {make_event(), make_event()};
    for (int i = 0; i < batches; ++i) {
      for (int n = 0; n < batch; ++n) work.start();
      check(cudaEventRecord(ends[i % 2].get(), stream_.get()), "cudaEventRecord");
      if (i > 0) check(cudaEventSynchronize(ends[(i - 1) % 2].get()), "cudaEventSynchronize");
    }
    const DeviceState state = nvml_->state();
    wait();
    return state;
  }

  // Writes twice what the L2 cache holds, so that whatever it held is pushed out, modified or not; then reads it, so
  // that what is left there is not modified, and nothing has to be written back at the cost of what runs next.
  bool evict() override {
    const int64_t bytes = 2 * l2_bytes_;
    if (!eviction_) eviction_.reset(allocate(bytes));
    clear(eviction_.get(), bytes);
    const int64_t quads = bytes / static_cast<int64_t>(sizeof(float4));
    static const int64_t fit = blocks_that_fit(read_zeros, kThreads);
    read_zeros<<<blocks_for(quads, fit), kThreads, 0, stream_.get()>>>(reinterpret_cast<float4*>(eviction_.get()),
                                                                       quads);
    check(cudaGetLastError(), "cudaLaunchKernel");
    wait();
    return true;
  }

 private:
  // A thread each for so many elements, but no more blocks than run at a time.
  unsigned blocks_for(int64_t count, int64_t of_multiprocessor) const {
    return static_cast<unsigned>(std::min((count + kThreads - 1) / kThreads, of_multiprocessor * multiprocessors_));
  }
  template <class Kernel, class Adjacent>
  void run_reduction(const Kernel& kernel, int64_t segments, int64_t terms, Adjacent adjacent) {
    with_reducer(kernel, segments * terms, adjacent, [&]<int kTogether, class Index>() {
      const auto blocks = static_cast<unsigned>((segments + kTogether - 1) / kTogether);
      reduce<kTogether>
          <<<blocks, kReducers, 0, stream_.get()>>>(kernel, static_cast<Index>(segments), static_cast<Index>(terms));
    });
    check(cudaGetLastError(), "cudaLaunchKernel");
  }
  void clear(std::byte* data, int64_t bytes) {
    if (bytes == 0) return;
    check(cudaMemsetAsync(data, 0, static_cast<size_t>(bytes), stream_.get()), "cudaMemsetAsync");
  }
  void wait() { check(cudaStreamSynchronize(stream_.get()), "cudaStreamSynchronize"); }
  void launch_copy(void* to, const void* from, int64_t bytes, cudaMemcpyKind kind) {
    check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), kind, stream_.get()), "cudaMemcpyAsync");
  }

  int64_t multiprocessors_;
  int64_t l2_bytes_;
  Stream stream_;  // before all that uses it
  CublasLt cublaslt_;
  std::optional<Cudnn> cudnn_;  // from the first convolution on
  std::optional<Nvml> nvml_;
  Memory eviction_;
  Memory parts_;  // of one reduction at a time, as all run in order; then a zero, which waking goes to again and again
};

// --- What there is ------------------------------------------------------------------------------

// 13000: "13.0"
std::string version_text(int number) {
  return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
}

int driver_version() {
  int version = 0;
  check(cudaDriverGetVersion(&version), "cudaDriverGetVersion");
  return version;
}

cudaDeviceProp properties() {
  cudaDeviceProp found;
  check(cudaGetDeviceProperties(&found, 0), "cudaGetDeviceProperties");
  return found;
}

// Why the first GPU cannot be used, if so. Throws VendorError where CUDA says it.
std::optional<std::string> obstacle() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  const int driver = driver_version();
  const std::string said = " (" + describe(status, "cudaGetDeviceCount") + ")";
  if (status != cudaSuccess) cudaGetLastError();
  if (driver == 0) return "no NVIDIA driver is installed on this machine" + said;
  if (status == cudaErrorInsufficientDriver) {
    return "the driver supports CUDA " + version_text(driver) + ", this build needs " +
           version_text(CUDART_VERSION / 1000 * 1000) + ": update the driver";
  }
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0)) return "no GPU is to be seen" + said;
  check(status, "cudaGetDeviceCount");
  check(cudaSetDevice(0), "cudaSetDevice");
  check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");  // fails if it was lost earlier
  cudaFuncAttributes attributes;
  const cudaError_t code = cudaFuncGetAttributes(&attributes, read_zeros);
  if (code == cudaErrorNoKernelImageForDevice || code == cudaErrorInvalidDeviceFunction) {
    cudaGetLastError();
    const cudaDeviceProp gpu = properties();
    return "this build has no code for the " + std::string(gpu.name) + " of compute capability " +
           std::to_string(gpu.major) + "." + std::to_string(gpu.minor) + " (" +
           describe(code, "cudaFuncGetAttributes") + ")";
  }
  check(code, "cudaFuncGetAttributes");
  return {};
}

// What `make` makes, or why not: one line.
template <class Made, class F>
std::variant<Made, Unsupported> unless_obstructed(F make) {
  try {
    if (auto why = obstacle()) return Unsupported{std::move(*why)};
    return std::variant<Made, Unsupported>(make());
  } catch (const LibraryMissing& missing) {
    return Unsupported{missing.what()};
  } catch (const OutOfMemory& full) {
    return Unsupported{full.what()};
  } catch (const VendorError& error) {
    return Unsupported{std::string("the GPU cannot be used: ") + error.what()};
  }
}

// Of the compiler that cuDNN looks for as it runs.
std::string nvrtc_version() {
  static const Library library("NVRTC", names_by_cuda("libnvrtc.so", CUDART_VERSION / 1000),
                               "install CUDA's runtime compiler, or add its folder to LD_LIBRARY_PATH");
  int major = 0;
  int minor = 0;
  library.symbol<int(int*, int*)>("nvrtcVersion")(&major, &minor);
  return std::to_string(major) + "." + std::to_string(minor);
}

// A library's version; empty where the library is missing or refuses.
template <class F>
std::string version_or_none(F version) {
  try {
    return version();
  } catch (const LibraryMissing&) {
    return "";
  } catch (const OutOfMemory&) {
    return "";
  } catch (const VendorError&) {
    return "";
  }
}

}  // namespace

std::variant<std::shared_ptr<Device>, Unsupported> the_gpu() {
  return unless_obstructed<std::shared_ptr<Device>>([] {
    static auto& gpu = *new std::shared_ptr<Device>;  // never destroyed: what it holds of libraries may be gone earlier
    if (!gpu) gpu = std::make_shared<Gpu>();
    return gpu;
  });
}

std::variant<GpuInfo, Unsupported> gpu_info() {
  return unless_obstructed<GpuInfo>([] {
    const cudaDeviceProp gpu = properties();
    GpuInfo info;
    info.name = gpu.name;
    info.major = gpu.major;
    info.minor = gpu.minor;
    info.multiprocessors = gpu.multiProcessorCount;
    info.memory_bytes = static_cast<int64_t>(gpu.totalGlobalMem);
    info.l2_bytes = gpu.l2CacheSize;
    info.driver = version_text(driver_version());
    info.runtime = version_text(CUDART_VERSION);
    info.cublaslt = version_or_none([] { return CublasLt().version(); });
    info.cudnn = version_or_none(cudnn_version);
    info.nvrtc = version_or_none(nvrtc_version);
    return info;
  });
}

}  // namespace triphase::cuda
