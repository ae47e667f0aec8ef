// SPDX-License-Identifier: Apache-2.0
// Marks what a CUDA compiler builds for the host and for the GPU alike, and says which of its loops a GPU unrolls;
// nothing for every other compiler.
#pragma once

#ifdef __CUDACC__
#define TRIPHASE_HOST_DEVICE __host__ __device__
#else
#define TRIPHASE_HOST_DEVICE
#endif

#ifdef __CUDA_ARCH__
#define TRIPHASE_UNROLL _Pragma("unroll")
#define TRIPHASE_NO_UNROLL _Pragma("unroll 1")
#else
#define TRIPHASE_UNROLL
#define TRIPHASE_NO_UNROLL
#endif
