// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/status.h"

namespace triphase::cuda {
namespace {

struct Meaning {
  const char* name;
  const char* text;
};

// cuBLASLt's own is found at run time only, and is not there when it could not be loaded.
Meaning meaning(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return {"CUBLAS_STATUS_SUCCESS", "no error"};
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return {"CUBLAS_STATUS_NOT_INITIALIZED", "the library could not be initialised"};
    case CUBLAS_STATUS_ALLOC_FAILED:
      return {"CUBLAS_STATUS_ALLOC_FAILED", "the library could not allocate memory"};
    case CUBLAS_STATUS_INVALID_VALUE:
      return {"CUBLAS_STATUS_INVALID_VALUE", "a parameter is invalid or conflicts with another"};
    case CUBLAS_STATUS_ARCH_MISMATCH:
      return {"CUBLAS_STATUS_ARCH_MISMATCH", "the device lacks what is asked for"};
    case CUBLAS_STATUS_MAPPING_ERROR:
      return {"CUBLAS_STATUS_MAPPING_ERROR", "device memory could not be reached"};
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return {"CUBLAS_STATUS_EXECUTION_FAILED", "the device failed to execute"};
    case CUBLAS_STATUS_INTERNAL_ERROR:
      return {"CUBLAS_STATUS_INTERNAL_ERROR", "an operation within the library failed"};
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return {"CUBLAS_STATUS_NOT_SUPPORTED", "not supported"};
    case CUBLAS_STATUS_LICENSE_ERROR:
      return {"CUBLAS_STATUS_LICENSE_ERROR", "the licence could not be checked"};
  }
  return {nullptr, "unknown status"};
}

std::string line(const char* call, const std::string& text, const std::string& name) {
  return std::string(call) + ": " + text + " (" + name + ")";
}

}  // namespace

std::string describe(cudaError_t error, const char* call) {
  return line(call, cudaGetErrorString(error), cudaGetErrorName(error));
}

std::string describe(cublasStatus_t status, const char* call) {
  const auto [name, text] = meaning(status);
  return line(call, text, name ? name : std::to_string(static_cast<int>(status)));
}

bool loses_device(cudaError_t error) {
  switch (error) {
    case cudaErrorDevicesUnavailable:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorMpsClientTerminated:
    case cudaErrorExternalDevice:
#if CUDART_VERSION >= 12080
    case cudaErrorContained:
    case cudaErrorTensorMemoryLeak:
#endif
      return true;
    default:
      return false;
  }
}

void check(cudaError_t error, const char* call) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // or the next launch would be blamed
  if (error == cudaErrorMemoryAllocation) throw OutOfMemory("the GPU has too little memory: " + describe(error, call));
  if (loses_device(error)) throw DeviceLost(describe(error, call) + ": the device is lost for this process");
  throw VendorError(describe(error, call));
}

void check(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_ALLOC_FAILED) {
    throw OutOfMemory("the GPU has too little memory: " + describe(status, call));
  }
  if (status != CUBLAS_STATUS_SUCCESS) throw VendorError(describe(status, call));
}

Stream make_stream() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  return Stream(stream);
}

Event make_event() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreate(&event), "cudaEventCreate");
  return Event(event);
}

double seconds_between(const Event& begin, const Event& end) {
  float elapsed_ms = 0;
  check(cudaEventElapsedTime(&elapsed_ms, begin.get(), end.get()), "cudaEventElapsedTime");
  return static_cast<double>(elapsed_ms) * 1e-3;
}

Graph capture(cudaStream_t stream, const std::function<void()>& launch) {
  cudaGraph_t graph = nullptr;
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  try {
    launch();
  } catch (...) {
    cudaStreamEndCapture(stream, &graph);
    if (graph) cudaGraphDestroy(graph);
    cudaGetLastError();
    throw;
  }
  check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
  const Owned<cudaGraph_t, cudaGraphDestroy> captured(graph);
  cudaGraphExec_t ready = nullptr;
  check(cudaGraphInstantiate(&ready, graph, 0), "cudaGraphInstantiate");
  Graph launchable(ready);
  check(cudaGraphUpload(ready, stream), "cudaGraphUpload");
  return launchable;
}

}  // namespace triphase::cuda
