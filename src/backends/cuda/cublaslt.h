// SPDX-License-Identifier: Apache-2.0
// Products by cuBLASLt, which is located at run time. Inputs are rounded no further than the precision says, nor split
// into shorter types; sums are in f32. Several algorithms are asked for, and tune() keeps the one that is fastest on
// this device.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <string>

#include "backends/cuda/device.h"

namespace triphase::cuda {

class CublasLt {
 public:
  // Throws LibraryMissing, and VendorError where the library refuses the device.
  CublasLt();

  // "13.1.0"
  std::string version() const;
  // Throws Unimplemented where the library has no algorithm for this product with this epilogue.
  std::unique_ptr<Call<ProductOperands>> prepare(const Product& product, cudaStream_t stream);

  struct Shared;

 private:
  std::shared_ptr<Shared> shared_;  // with the calls, which may outlive this
};

}  // namespace triphase::cuda
