// SPDX-License-Identifier: Apache-2.0
#include "fake_gpu/runtime.h"

#include <sys/mman.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include "fake_gpu/kernels.h"

namespace fake_gpu {
namespace {

constexpr int64_t kPage = 4096;
constexpr int64_t kAlignment = 256;
constexpr int kComputeCapability[] = {9, 0};
constexpr int kMultiprocessors = 4;
constexpr int kDriver = 13000;

struct Meaning {
  cudaError_t error;
  const char* name;
  const char* text;
};
constexpr Meaning kMeanings[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorInvalidDeviceFunction, "cudaErrorInvalidDeviceFunction", "invalid device function"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorNoKernelImageForDevice, "cudaErrorNoKernelImageForDevice",
     "no kernel image is available for execution on the device"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"},
};
const Meaning& meaning(cudaError_t error) {
  const auto* found = std::ranges::find(kMeanings, error, &Meaning::error);
  return found == std::end(kMeanings) ? kMeanings[std::size(kMeanings) - 1] : *found;
}

bool loses_the_device(int status) { return status == cudaErrorIllegalAddress || status == cudaErrorLaunchFailure; }

struct Operation {
  double seconds = 0;  // by the device's clock, before it ends
  std::function<void()> run;
  cudaEvent_t event = nullptr;  // that it records
};

struct Stream {
  bool capturing = false;
  bool invalid = false;  // the capture
  std::vector<Operation> captured;
};
struct Event {
  enum class State { kNever, kOnItsWay, kHappened, kCaptured };
  State state = State::kNever;
  double time_s = 0;
};
struct Graph {
  std::vector<Operation> operations;
};
struct Memory {
  std::byte* mapped = nullptr;
  int64_t mapped_bytes = 0;  // without the page behind
  int64_t bytes = 0;
};
struct Kernel {
  std::string name;
  Bind bind;
};

struct Fault {
  std::string call;
  int64_t which;  // of the calls from now on
  int status;
};

// What lives, by the handles that the caller has.
template <class T>
class Registry {
 public:
  T* make() {
    auto made = std::make_unique<T>();
    T* handle = made.get();
    living_.emplace(handle, std::move(made));
    return handle;
  }
  // Null where there is none.
  T* find(const void* handle) const {
    const auto found = living_.find(handle);
    return found == living_.end() ? nullptr : found->second.get();
  }
  bool destroy(const void* handle) { return living_.erase(handle) > 0; }
  int64_t size() const { return static_cast<int64_t>(living_.size()); }

 private:
  std::map<const void*, std::unique_ptr<T>> living_;
};

struct Device {
  int64_t calls = 0;
  std::vector<Fault> faults;
  int lost = 0;  // the status, if it is
  cudaError_t last_error = cudaSuccess;
  std::vector<std::string> violations;

  std::map<const std::byte*, Memory> memory;
  int64_t bytes = 0;
  Registry<Stream> streams;
  Stream* captured = nullptr;  // of them, the one that is
  Registry<Event> events;
  Registry<Graph> graphs, executables;
  std::set<const void*> objects;

  std::vector<Operation> queue;
  double clock_s = 0;
  std::set<std::string> loaded;

  std::map<const void*, Kernel> kernels;  // by their host functions
  struct Configuration {
    dim3 grid, block;
    size_t shared_bytes;
    cudaStream_t stream;
  };
  std::vector<Configuration> configurations;

  const bool idle = std::getenv("FAKE_GPU_IDLE") != nullptr;

  Device() {
    if (const char* wish = std::getenv("FAKE_GPU_FAIL")) add_fault(wish);
  }

  // "cudaMalloc:3:2"
  void add_fault(std::string_view wish) {
    const size_t first = wish.find(':');
    const size_t second = wish.find(':', first + 1);
    int64_t which = 0;
    int status = 0;
    const auto number = [&](std::string_view text, auto& to) {
      return std::from_chars(text.data(), text.data() + text.size(), to).ec == std::errc();
    };
    if (second == std::string_view::npos || !number(wish.substr(first + 1, second - first - 1), which) ||
        !number(wish.substr(second + 1), status)) {
      std::fprintf(stderr, "FAKE_GPU_FAIL: expected <call>:<which>:<status>, found %s\n", std::string(wish).c_str());
      std::abort();
    }
    faults.push_back({std::string(wish.substr(0, first)), which, status});
  }

  int failure(const char* call) {
    ++calls;
    if (lost != 0) return lost;
    for (Fault& fault : faults) {
      if (fault.call != "*" && fault.call != call) continue;
      if (--fault.which != 0) continue;
      if (loses_the_device(fault.status)) lost = fault.status;
      return fault.status;
    }
    return 0;
  }

  void violate(const std::string& what) {
    violations.push_back(what);
    std::fprintf(stderr, "fake GPU: not allowed: %s\n", what.c_str());
  }

  void protect(int how) const {
    for (const auto& [data, block] : memory) mprotect(block.mapped, static_cast<size_t>(block.mapped_bytes), how);
  }

  void run_all() {
    if (queue.empty()) return;
    protect(PROT_READ | PROT_WRITE);
    for (const Operation& operation : std::exchange(queue, {})) {
      clock_s += operation.seconds;
      if (!idle || operation.event != nullptr) operation.run();
    }
    protect(PROT_NONE);
  }

  // What may not be done in a capture ends it.
  cudaError_t refuse_in_capture(const char* call) {
    if (captured == nullptr) return cudaSuccess;
    captured->invalid = true;
    violate(std::string(call) + " while a stream is captured");
    return cudaErrorStreamCaptureUnsupported;
  }

  cudaError_t put(cudaStream_t on, const std::string& what, double seconds, std::function<void()> run,
                  bool must_be_loaded) {
    Stream* stream = streams.find(on);
    if (stream == nullptr) {
      violate(what + " on a stream that does not live");
      return cudaErrorInvalidResourceHandle;
    }
    if (!stream->capturing) {
      if (must_be_loaded) loaded.insert(what);
      queue.push_back({seconds + kLaunch_s, std::move(run), nullptr});
      return cudaSuccess;
    }
    if (stream->invalid) return cudaErrorStreamCaptureInvalidated;
    if (must_be_loaded && !loaded.contains(what)) {
      stream->invalid = true;
      violate(what + " is captured, and was never launched before");
      return cudaErrorStreamCaptureUnsupported;
    }
    stream->captured.push_back({seconds, std::move(run), nullptr});
    return cudaSuccess;
  }

  bool holds(const void* data, int64_t count) const {
    const auto* at = static_cast<const std::byte*>(data);
    auto next = memory.upper_bound(at);
    if (next == memory.begin()) return false;
    const auto& [begin, block] = *--next;
    return count >= 0 && at - begin <= block.bytes - count;
  }
};

Device& device() {
  static Device& the = *new Device;  // outlives whatever is destroyed at the end of the program
  return the;
}

// What a call does unless it is to fail; its status is remembered, as CUDA does.
template <class F>
cudaError_t call(const char* name, F does) {
  auto status = static_cast<cudaError_t>(device().failure(name));
  if (status == cudaSuccess) status = does(device());
  if (status != cudaSuccess) device().last_error = status;
  return status;
}

cudaError_t record(cudaEvent_t handle, cudaStream_t on, unsigned flags) {
  Device& gpu = device();
  Event* event = gpu.events.find(handle);
  Stream* stream = gpu.streams.find(on);
  if (event == nullptr || stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (flags == cudaEventRecordExternal && !stream->capturing) return cudaErrorInvalidValue;
  if (stream->capturing && flags != cudaEventRecordExternal) {
    event->state = Event::State::kCaptured;
    return stream->invalid ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
  }
  if (!stream->capturing) event->state = Event::State::kOnItsWay;
  const auto happen = [handle] {
    Event* found = device().events.find(handle);
    if (found == nullptr) return;  // may be destroyed earlier
    found->state = Event::State::kHappened;
    found->time_s = device().clock_s;
  };
  if (!stream->capturing) {
    gpu.queue.push_back({0, happen, handle});
  } else if (stream->invalid) {
    return cudaErrorStreamCaptureInvalidated;
  } else {
    stream->captured.push_back({0, happen, handle});
  }
  return cudaSuccess;
}

template <class T>
cudaError_t destroy(const char* name, Registry<T> Device::*of, const void* handle) {
  const auto status = static_cast<cudaError_t>(device().failure(name));
  if ((device().*of).destroy(handle)) return status;  // a lost device's are gone as well
  device().violate(std::string(name) + " of what does not live");
  return cudaErrorInvalidResourceHandle;
}

cudaError_t launch(const void* kernel, dim3 grid, dim3 block, void** arguments, size_t /*shared_bytes*/,
                   cudaStream_t stream) {
  return call("cudaLaunchKernel", [&](Device& gpu) {
    const auto found = gpu.kernels.find(kernel);
    if (found == gpu.kernels.end() || !found->second.bind) {
      gpu.violate("a kernel is launched that is not known here: " +
                  (found == gpu.kernels.end() ? std::string("never registered") : found->second.name));
      return cudaErrorInvalidDeviceFunction;
    }
    constexpr unsigned kMostBlocks = std::numeric_limits<int32_t>::max();
    if (grid.x == 0 || grid.x > kMostBlocks || grid.y != 1 || grid.z != 1 || block.x == 0 || block.x > 1024) {
      return cudaErrorInvalidConfiguration;
    }
    return gpu.put(stream, found->second.name, kOperation_s, found->second.bind(grid, block, arguments), true);
  });
}

}  // namespace

int64_t calls() { return device().calls; }

void fail(const std::string& call, int64_t which, int status) { device().faults.push_back({call, which, status}); }

void mend() {
  device().faults.clear();
  device().lost = 0;
  device().last_error = cudaSuccess;
}

Living living() {
  const Device& gpu = device();
  return {gpu.bytes, gpu.streams.size(), gpu.events.size(), gpu.graphs.size() + gpu.executables.size(),
          static_cast<int64_t>(gpu.objects.size())};
}

std::vector<std::string> violations() { return device().violations; }

}  // namespace fake_gpu

using fake_gpu::call;
using fake_gpu::device;
using fake_gpu::Event;

extern "C" {

int fake_gpu_failure(const char* call) { return device().failure(call); }

cudaError_t fake_gpu_enqueue(cudaStream_t stream, const char* what, double seconds, std::function<void()> run) {
  return device().put(stream, what, seconds, std::move(run), true);
}

bool fake_gpu_captures(cudaStream_t stream) {
  const fake_gpu::Stream* found = device().streams.find(stream);
  return found != nullptr && found->capturing;
}

bool fake_gpu_holds(const void* data, int64_t bytes) { return device().holds(data, bytes); }

void fake_gpu_violation(const std::string& what) { device().violate(what); }

void fake_gpu_made(const void* object) { device().objects.insert(object); }
void fake_gpu_destroyed(const void* object) {
  if (device().objects.erase(object) == 0) device().violate("a library's object is destroyed that does not live");
}

// --- The device ---------------------------------------------------------------------------------

cudaError_t cudaGetDeviceCount(int* count) {
  return call("cudaGetDeviceCount", [&](auto&) {
    *count = 1;
    return cudaSuccess;
  });
}

cudaError_t cudaDriverGetVersion(int* version) {
  return call("cudaDriverGetVersion", [&](auto&) {
    *version = fake_gpu::kDriver;
    return cudaSuccess;
  });
}

cudaError_t cudaSetDevice(int number) {
  return call("cudaSetDevice", [&](auto&) { return number == 0 ? cudaSuccess : cudaErrorInvalidDevice; });
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  return call("cudaDeviceGetAttribute", [&](auto&) {
    switch (attribute) {
      case cudaDevAttrMultiProcessorCount:
        *value = fake_gpu::kMultiprocessors;
        return cudaSuccess;
      case cudaDevAttrL2CacheSize:
        *value = fake_gpu::kL2Bytes;
        return cudaSuccess;
      default:
        return cudaErrorInvalidValue;
    }
  });
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  return call("cudaGetDeviceProperties", [&](auto&) {
    *properties = {};
    std::snprintf(properties->name, sizeof properties->name, "host in a GPU's place");
    properties->major = fake_gpu::kComputeCapability[0];
    properties->minor = fake_gpu::kComputeCapability[1];
    properties->multiProcessorCount = fake_gpu::kMultiprocessors;
    properties->totalGlobalMem = fake_gpu::kMemoryBytes;
    properties->l2CacheSize = fake_gpu::kL2Bytes;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetPCIBusId(char* id, int bytes, int) {
  return call("cudaDeviceGetPCIBusId", [&](auto&) {
    std::snprintf(id, static_cast<size_t>(bytes), "0000:01:00.0");
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceSynchronize() {
  return call("cudaDeviceSynchronize", [&](auto& gpu) {
    const cudaError_t refused = gpu.refuse_in_capture("cudaDeviceSynchronize");
    if (refused == cudaSuccess) gpu.run_all();
    return refused;
  });
}

// --- Errors -------------------------------------------------------------------------------------

cudaError_t cudaGetLastError() {
  const cudaError_t error = device().lost != 0 ? static_cast<cudaError_t>(device().lost) : device().last_error;
  device().last_error = cudaSuccess;
  return error;
}

const char* cudaGetErrorName(cudaError_t error) { return fake_gpu::meaning(error).name; }
const char* cudaGetErrorString(cudaError_t error) { return fake_gpu::meaning(error).text; }

// --- Memory -------------------------------------------------------------------------------------

cudaError_t cudaMalloc(void** data, size_t bytes) {
  return call("cudaMalloc", [&](auto& gpu) {
    if (const cudaError_t refused = gpu.refuse_in_capture("cudaMalloc"); refused != cudaSuccess) return refused;
    if (bytes == 0) return cudaErrorInvalidValue;
    const auto wanted = static_cast<int64_t>(bytes);
    if (wanted > fake_gpu::kMemoryBytes - gpu.bytes) return cudaErrorMemoryAllocation;
    const auto up_to = [](int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; };
    const int64_t mapped_bytes = up_to(wanted, fake_gpu::kPage);
    void* mapped = mmap(nullptr, static_cast<size_t>(mapped_bytes + fake_gpu::kPage), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) return cudaErrorMemoryAllocation;
    // It ends where the page behind it begins, as far as it must be aligned.
    std::byte* begin = static_cast<std::byte*>(mapped) + mapped_bytes - up_to(wanted, fake_gpu::kAlignment);
    if (!gpu.idle) std::memset(mapped, 0xff, static_cast<size_t>(mapped_bytes));
    mprotect(mapped, static_cast<size_t>(mapped_bytes + fake_gpu::kPage), PROT_NONE);
    gpu.memory[begin] = {static_cast<std::byte*>(mapped), mapped_bytes, wanted};
    gpu.bytes += wanted;
    *data = begin;
    return cudaSuccess;
  });
}

cudaError_t cudaFree(void* data) {
  if (data == nullptr) return cudaSuccess;
  fake_gpu::Device& gpu = device();
  const auto status = static_cast<cudaError_t>(gpu.failure("cudaFree"));
  if (const cudaError_t refused = gpu.refuse_in_capture("cudaFree"); refused != cudaSuccess) return refused;
  const auto found = gpu.memory.find(static_cast<const std::byte*>(data));
  if (found == gpu.memory.end()) {
    gpu.violate("cudaFree of what was not allocated, or not there");
    return cudaErrorInvalidValue;
  }
  gpu.run_all();
  munmap(found->second.mapped, static_cast<size_t>(found->second.mapped_bytes + fake_gpu::kPage));
  gpu.bytes -= found->second.bytes;
  gpu.memory.erase(found);
  return status;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  return call("cudaMemGetInfo", [&](auto& gpu) {
    *total = fake_gpu::kMemoryBytes;
    *free = static_cast<size_t>(fake_gpu::kMemoryBytes - gpu.bytes);
    return cudaSuccess;
  });
}

cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t stream) {
  return call("cudaMemsetAsync", [&](auto& gpu) {
    if (!gpu.holds(data, static_cast<int64_t>(bytes))) return cudaErrorInvalidValue;
    return gpu.put(
        stream, "cudaMemsetAsync", fake_gpu::kOperation_s, [=] { std::memset(data, value, bytes); }, false);
  });
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  return call("cudaMemcpyAsync", [&](auto& gpu) {
    const bool to_device = kind != cudaMemcpyDeviceToHost;
    const bool from_device = kind != cudaMemcpyHostToDevice;
    const auto count = static_cast<int64_t>(bytes);
    if (gpu.holds(to, count) != to_device || gpu.holds(from, count) != from_device) return cudaErrorInvalidValue;
    if (!to_device || !from_device) {  // the host's memory is not pinned
      const cudaError_t refused = gpu.refuse_in_capture("cudaMemcpyAsync with the host");
      if (refused != cudaSuccess) return refused;
    }
    std::vector<std::byte> staged;
    if (!from_device && !gpu.idle) {
      const auto* begin = static_cast<const std::byte*>(from);
      staged.assign(begin, begin + bytes);
    }
    const cudaError_t status = gpu.put(
        stream, "cudaMemcpyAsync", fake_gpu::kOperation_s,
        [=, held = std::move(staged)] { std::memcpy(to, from_device ? from : held.data(), bytes); }, false);
    if (status == cudaSuccess && !to_device) gpu.run_all();  // returns when memory that is not pinned is written
    return status;
  });
}

// --- Streams and events -------------------------------------------------------------------------

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  return call("cudaStreamCreateWithFlags", [&](auto& gpu) {
    *stream = reinterpret_cast<cudaStream_t>(gpu.streams.make());
    return cudaSuccess;
  });
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return fake_gpu::destroy("cudaStreamDestroy", &fake_gpu::Device::streams, stream);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return call("cudaStreamSynchronize", [&](auto& gpu) {
    if (gpu.streams.find(stream) == nullptr) return cudaErrorInvalidResourceHandle;
    const cudaError_t refused = gpu.refuse_in_capture("cudaStreamSynchronize");
    if (refused == cudaSuccess) gpu.run_all();
    return refused;
  });
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return call("cudaEventCreate", [&](auto& gpu) {
    *event = reinterpret_cast<cudaEvent_t>(gpu.events.make());
    return cudaSuccess;
  });
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return fake_gpu::destroy("cudaEventDestroy", &fake_gpu::Device::events, event);
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
  return call("cudaEventRecordWithFlags", [&](auto&) { return fake_gpu::record(event, stream, flags); });
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return call("cudaEventRecord", [&](auto&) { return fake_gpu::record(event, stream, cudaEventRecordDefault); });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return call("cudaEventSynchronize", [&](auto& gpu) {
    const Event* found = gpu.events.find(event);
    if (found == nullptr || found->state == Event::State::kCaptured) return cudaErrorInvalidResourceHandle;
    const cudaError_t refused = gpu.refuse_in_capture("cudaEventSynchronize");
    if (refused == cudaSuccess) gpu.run_all();
    return refused;
  });
}

cudaError_t cudaEventElapsedTime(float* elapsed_ms, cudaEvent_t begin, cudaEvent_t end) {
  return call("cudaEventElapsedTime", [&](auto& gpu) {
    const Event* first = gpu.events.find(begin);
    const Event* second = gpu.events.find(end);
    for (const Event* event : {first, second}) {
      if (event == nullptr || event->state == Event::State::kNever || event->state == Event::State::kCaptured) {
        return cudaErrorInvalidResourceHandle;
      }
      if (event->state == Event::State::kOnItsWay) return cudaErrorNotReady;
    }
    *elapsed_ms = static_cast<float>((second->time_s - first->time_s) * 1e3);
    return cudaSuccess;
  });
}

// --- Graphs -------------------------------------------------------------------------------------

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  return call("cudaStreamBeginCapture", [&](auto& gpu) {
    fake_gpu::Stream* found = gpu.streams.find(stream);
    if (found == nullptr) return cudaErrorInvalidResourceHandle;
    if (gpu.captured != nullptr) return cudaErrorIllegalState;
    found->capturing = true;
    gpu.captured = found;
    return cudaSuccess;
  });
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  fake_gpu::Stream* found = device().streams.find(stream);
  if (found == nullptr || !found->capturing) {
    device().violate("cudaStreamEndCapture of a stream that is not captured");
    return cudaErrorIllegalState;
  }
  const fake_gpu::Stream ended = std::exchange(*found, {});
  device().captured = nullptr;
  return call("cudaStreamEndCapture", [&](auto& gpu) {
    if (ended.invalid) return cudaErrorStreamCaptureInvalidated;
    auto* made = gpu.graphs.make();
    made->operations = ended.captured;
    *graph = reinterpret_cast<cudaGraph_t>(made);
    return cudaSuccess;
  });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return fake_gpu::destroy("cudaGraphDestroy", &fake_gpu::Device::graphs, graph);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* ready, cudaGraph_t graph, unsigned long long) {
  return call("cudaGraphInstantiate", [&](auto& gpu) {
    const auto* found = gpu.graphs.find(graph);
    if (found == nullptr) return cudaErrorInvalidResourceHandle;
    auto* made = gpu.executables.make();
    *made = *found;
    *ready = reinterpret_cast<cudaGraphExec_t>(made);
    return cudaSuccess;
  });
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t ready) {
  return fake_gpu::destroy("cudaGraphExecDestroy", &fake_gpu::Device::executables, ready);
}

cudaError_t cudaGraphUpload(cudaGraphExec_t ready, cudaStream_t stream) {
  return call("cudaGraphUpload", [&](auto& gpu) {
    if (gpu.executables.find(ready) == nullptr || gpu.streams.find(stream) == nullptr) {
      return cudaErrorInvalidResourceHandle;
    }
    return gpu.refuse_in_capture("cudaGraphUpload");
  });
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t ready, cudaStream_t stream) {
  return call("cudaGraphLaunch", [&](auto& gpu) {
    const auto* found = gpu.executables.find(ready);
    if (found == nullptr || gpu.streams.find(stream) == nullptr) return cudaErrorInvalidResourceHandle;
    if (const cudaError_t refused = gpu.refuse_in_capture("cudaGraphLaunch"); refused != cudaSuccess) return refused;
    for (const fake_gpu::Operation& operation : found->operations) {
      if (operation.event == nullptr) continue;
      Event* event = gpu.events.find(operation.event);
      if (event == nullptr) {
        gpu.violate("a graph is launched that records an event that was destroyed");
        return cudaErrorInvalidResourceHandle;
      }
      event->state = Event::State::kOnItsWay;
    }
    gpu.queue.push_back({fake_gpu::kLaunch_s, [] {}, nullptr});
    gpu.queue.insert(gpu.queue.end(), found->operations.begin(), found->operations.end());
    return cudaSuccess;
  });
}

// --- Kernels, as nvcc registers and launches them -----------------------------------------------

void** __cudaRegisterFatBinary(void*) {
  static void* handle = nullptr;
  return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}

void __cudaRegisterFunction(void**, const char* function, char*, const char* name, int, uint3*, uint3*, dim3*, dim3*,
                            int*) {
  device().kernels[function] = {name, fake_gpu::kernel_named(name)};
}

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream) {
  device().configurations.push_back({grid, block, shared_bytes, stream});
  return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared_bytes, void* stream) {
  const fake_gpu::Device::Configuration last = device().configurations.back();
  device().configurations.pop_back();
  *grid = last.grid;
  *block = last.block;
  *shared_bytes = last.shared_bytes;
  *static_cast<cudaStream_t*>(stream) = last.stream;
  return cudaSuccess;
}

cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  *kernel = static_cast<cudaKernel_t>(const_cast<void*>(function));
  return cudaSuccess;
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments, size_t shared_bytes,
                               cudaStream_t stream) {
  return fake_gpu::launch(kernel, grid, block, arguments, shared_bytes, stream);
}

// As nvcc 12 launches them.
cudaError_t cudaLaunchKernel(const void* kernel, dim3 grid, dim3 block, void** arguments, size_t shared_bytes,
                             cudaStream_t stream) {
  return fake_gpu::launch(kernel, grid, block, arguments, shared_bytes, stream);
}

// By this, too, without flags.
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void* function, int, size_t,
                                                                   unsigned) {
  constexpr int kFit = 5;
  return call("cudaOccupancyMaxActiveBlocksPerMultiprocessor", [&](auto& gpu) {
    *blocks = kFit;
    return gpu.kernels.contains(function) ? cudaSuccess : cudaErrorInvalidDeviceFunction;
  });
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function) {
  return call("cudaFuncGetAttributes", [&](auto& gpu) {
    *attributes = {};
    return gpu.kernels.contains(function) ? cudaSuccess : cudaErrorInvalidDeviceFunction;
  });
}
}
