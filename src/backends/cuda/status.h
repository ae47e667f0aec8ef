// SPDX-License-Identifier: Apache-2.0
// Calling CUDA: a status that is no success is thrown as one line, with the call, the meaning and the name; what a call
// gives has an owner.
#pragma once

#include <cublas_api.h>
#include <cuda_runtime_api.h>

#include <functional>
#include <memory>
#include <string>
#include <type_traits>

#include "backends/cuda/device.h"

namespace triphase::cuda {

// "cudaMalloc: out of memory (cudaErrorMemoryAllocation)"
std::string describe(cudaError_t error, const char* call);
std::string describe(cublasStatus_t status, const char* call);

// Whether CUDA's own description says that the process must be started again.
bool loses_device(cudaError_t error);

// Throws OutOfMemory, DeviceLost or else VendorError; no later call will meet the error again, unless the device is
// lost.
void check(cudaError_t error, const char* call);
void check(cublasStatus_t status, const char* call);

template <auto destroy>
struct DestroyedBy {
  template <class T>
  void operator()(T* handle) const {
    destroy(handle);  // whatever it says: the next call says it again
  }
};
template <class Handle, auto destroy>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, DestroyedBy<destroy>>;

using Stream = Owned<cudaStream_t, cudaStreamDestroy>;
using Event = Owned<cudaEvent_t, cudaEventDestroy>;
using Graph = Owned<cudaGraphExec_t, cudaGraphExecDestroy>;

// A stream that waits for no other.
Stream make_stream();
// An event that tells the time.
Event make_event();
// Both have happened.
double seconds_between(const Event& begin, const Event& end);

// What `launch` puts on the stream, ready to be launched at once; nothing runs. Whatever `launch` throws ends the
// capture and is thrown on.
Graph capture(cudaStream_t stream, const std::function<void()>& launch);

}  // namespace triphase::cuda
