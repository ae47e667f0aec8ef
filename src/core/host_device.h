// SPDX-License-Identifier: Apache-2.0
// Marks what a CUDA compiler builds for the host and for the GPU alike; nothing for every other compiler.
#pragma once

#ifdef __CUDACC__
#define TRIPHASE_HOST_DEVICE __host__ __device__
#else
#define TRIPHASE_HOST_DEVICE
#endif
