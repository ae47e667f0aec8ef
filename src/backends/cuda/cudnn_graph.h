// SPDX-License-Identifier: Apache-2.0
// A convolution as a graph for cuDNN, of one node, and more for its bias and ReLU; and the plans that may run it:
// cuDNN's heuristics list engines with their settings, best first, of which the first few of each engine that compute
// as asked, fit the workspace and build are kept. All of it also without a GPU, for one whose properties are told.
//
// By cuDNN's frontend: headers that find all of cuDNN's functions through one handle. What they want of CUDA's runtime
// they look for in libcudart.so, which need not be there, as this program has the runtime within. So nothing is called
// that cannot do without: Graph::check_support, Graph::autotune, the keeping of plans for CUDA graphs.
#pragma once

#define NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING
#define CUDNN_FRONTEND_SKIP_JSON_LIB  // no plan is written down
#include <cudnn_frontend.h>

#include <memory>
#include <string>
#include <vector>

#include "backends/cuda/device.h"

namespace triphase::cuda {

// Throw OutOfMemory where cuDNN lacks memory, else VendorError, with cuDNN's own words.
void check(cudnnStatus_t status, const char* call);
void check(cudnn_frontend::error_t error, const char* call);

// Must come before all else of cuDNN. Throws LibraryMissing for want of a cuDNN 9.
void open_cudnn();

struct ConvolutionPlan {
  int64_t index;  // in the graph
  std::string name;
  int64_t workspace_bytes;
};

class ConvolutionGraph {
 public:
  // For the GPU of `handle` or, where that is null, for the one of `device`. Throws Unimplemented where cuDNN has no
  // plan, and as check() does.
  ConvolutionGraph(const Convolution& convolution, cudnnHandle_t handle,
                   std::shared_ptr<const cudnn_frontend::DeviceProperties> device = nullptr);

  // "conv2d forward in f32 with x [2, 3, 8, 8], ...": no other is described alike.
  const std::string& description() const { return description_; }

  // Those that compute as asked, best first by cuDNN's own guess; one at least, a handful at most.
  const std::vector<ConvolutionPlan>& plans() const { return plans_; }

  // Whether run() wants zeros for a bias: cuDNN has kernels of its own for a bias and a ReLU, none for a ReLU alone.
  bool takes_zero_bias() const { return epilogue_ == Epilogue::kRelu; }

  void run(const ConvolutionPlan& plan, cudnnHandle_t handle, const ConvolutionOperands& operands,
           std::byte* workspace) const;

 private:
  void find_plans();

  std::string description_;
  Epilogue epilogue_;
  cudnn_frontend::graph::Graph graph_;
  std::vector<ConvolutionPlan> plans_;
};

}  // namespace triphase::cuda
