// SPDX-License-Identifier: Apache-2.0
// In the place of cudnn.cpp in a build that lacks cuDNN's headers or its frontend's: refuses, and says which.
#include "backends/cuda/cudnn.h"
#include "backends/cuda/library.h"

namespace triphase::cuda {
namespace {

#ifdef TRIPHASE_NO_CUDNN_FRONTEND
constexpr const char* kWhy = "its frontend's headers were not found (scripts/setup installs them; then configure anew)";
#else
constexpr const char* kWhy = "its headers were not found (install those of cuDNN 9; then configure anew)";
#endif

}  // namespace

struct Cudnn::Session {};

std::string cudnn_version() { throw LibraryMissing(std::string("this build has no cuDNN: ") + kWhy); }

Cudnn::Cudnn(cudaStream_t) { cudnn_version(); }

std::unique_ptr<Call<ConvolutionOperands>> Cudnn::prepare(const Convolution&) { return nullptr; }

}  // namespace triphase::cuda
