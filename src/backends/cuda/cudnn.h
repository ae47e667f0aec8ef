// SPDX-License-Identifier: Apache-2.0
// Convolutions by cuDNN 9, which is located as the program runs and never linked; inputs are rounded no further than
// the precision says, and sums are in f32. A build that lacks its headers has no_cudnn.cpp in the place of cudnn.cpp.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <string>

#include "backends/cuda/device.h"

namespace triphase::cuda {

// "9.19.0"; opens the library and makes nothing of it. Throws LibraryMissing for want of a cuDNN 9.
std::string cudnn_version();

class Cudnn {
 public:
  // Everything runs on `stream`, which must outlive this and all calls, and must not be the default one, of which
  // nothing can be captured. Throws LibraryMissing for want of a cuDNN 9, and VendorError.
  explicit Cudnn(cudaStream_t stream);

  // The call keeps at most a handful of plans, best first by cuDNN's own guess; tune() keeps one. Operands lie at
  // multiples of 16 bytes. What is captured of a call must be destroyed before it, and the call run once before, so
  // that its kernels are loaded. Throws Unimplemented where cuDNN has no plan, and VendorError.
  std::unique_ptr<Call<ConvolutionOperands>> prepare(const Convolution& convolution);

 private:
  struct Session;
  class Prepared;

  std::shared_ptr<Session> session_;
};

}  // namespace triphase::cuda
