// SPDX-License-Identifier: Apache-2.0
// What CUDA and cuBLAS say, as one line; none of it needs a driver.
#include "backends/cuda/status.h"

#include <gtest/gtest.h>

namespace triphase::cuda {
namespace {

TEST(CudaStatus, an_error_is_one_line_with_call_meaning_and_name) {
  EXPECT_EQ(describe(cudaErrorMemoryAllocation, "cudaMalloc"), "cudaMalloc: out of memory (cudaErrorMemoryAllocation)");
  const std::string refused = describe(CUBLAS_STATUS_NOT_SUPPORTED, "cublasLtMatmul");
  EXPECT_TRUE(refused.starts_with("cublasLtMatmul: ")) << refused;
  EXPECT_TRUE(refused.ends_with("(CUBLAS_STATUS_NOT_SUPPORTED)")) << refused;
  EXPECT_EQ(refused.find('\n'), std::string::npos);
}

TEST(CudaStatus, success_throws_nothing) {
  EXPECT_NO_THROW(check(cudaSuccess, "cudaFree"));
  EXPECT_NO_THROW(check(CUBLAS_STATUS_SUCCESS, "cublasLtMatmul"));
}

TEST(CudaStatus, errors_that_end_the_process_lose_the_device_and_others_do_not) {
  for (const cudaError_t error : {cudaErrorIllegalAddress, cudaErrorLaunchFailure, cudaErrorECCUncorrectable}) {
    EXPECT_TRUE(loses_device(error));
    EXPECT_THROW(check(error, "cudaStreamSynchronize"), DeviceLost);
  }
  EXPECT_FALSE(loses_device(cudaErrorMemoryAllocation));
  for (const cudaError_t error : {cudaErrorInvalidValue, cudaErrorNotSupported, cudaErrorNoDevice}) {
    EXPECT_FALSE(loses_device(error));
    try {
      check(error, "cudaMemcpyAsync");
      FAIL() << "nothing thrown";
    } catch (const DeviceLost&) {
      FAIL() << cudaGetErrorName(error);
    } catch (const VendorError& thrown) {
      EXPECT_EQ(std::string(thrown.what()), describe(error, "cudaMemcpyAsync"));
    }
  }
}

TEST(CudaStatus, want_of_memory_is_no_fault) {
  EXPECT_THROW(check(cudaErrorMemoryAllocation, "cudaGraphInstantiate"), OutOfMemory);
  EXPECT_THROW(check(CUBLAS_STATUS_ALLOC_FAILED, "cublasLtMatmul"), OutOfMemory);
}

TEST(CudaStatus, every_status_of_cublas_has_a_name_and_a_meaning) {
  for (const cublasStatus_t status :
       {CUBLAS_STATUS_NOT_INITIALIZED, CUBLAS_STATUS_INVALID_VALUE, CUBLAS_STATUS_ARCH_MISMATCH,
        CUBLAS_STATUS_MAPPING_ERROR, CUBLAS_STATUS_EXECUTION_FAILED, CUBLAS_STATUS_INTERNAL_ERROR,
        CUBLAS_STATUS_NOT_SUPPORTED, CUBLAS_STATUS_LICENSE_ERROR}) {
    const std::string line = describe(status, "f");
    EXPECT_NE(line.find("(CUBLAS_STATUS_"), std::string::npos) << line;
    EXPECT_GT(line.find('('), std::string("f: ").size()) << line;
    EXPECT_THROW(check(status, "f"), VendorError);
  }
}

}  // namespace
}  // namespace triphase::cuda
