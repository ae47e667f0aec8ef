// SPDX-License-Identifier: Apache-2.0
// A device that is no GPU: the host stands in for one, so that plans can be run and verified anywhere. Own kernels are
// those of the GPU, called in a loop; products and convolutions are plain sums in float64. It holds a plan to what a
// GPU would: nothing is allocated, written or waited for while a step runs, and memory is released.
#pragma once

#include <limits>
#include <map>
#include <set>
#include <stdexcept>

#include "backends/cuda/device.h"

namespace triphase::cuda {

class HostDevice : public Device {
 public:
  // What it can do; a test takes things away.
  struct Abilities {
    bool bias_gradients = true;   // as a product's epilogue
    bool epilogues = true;        // a bias, a ReLU
    bool slow_epilogues = false;  // a call with one takes as long as three
    bool convolutions = true;
    bool wide_counts = false;  // elements are counted in 64 bits, however few
    int64_t memory_bytes = int64_t{1} << 40;
  };
  // What it was asked for so far.
  struct Counts {
    int64_t launches = 0, calls = 0, recordings = 0, tuned = 0;
    int64_t elements = 0;  // or terms, of the kernels as they were asked for
  };

  HostDevice() = default;
  explicit HostDevice(const Abilities& abilities) : abilities_(abilities) {}

  const Counts& counts() const { return counts_; }
  int64_t allocated_bytes() const { return allocated_bytes_; }

  std::byte* allocate(int64_t bytes) override;
  void release(std::byte* data) override;
  int64_t free_bytes() const override { return abilities_.memory_bytes - allocated_bytes_; }
  int64_t last_cache_bytes() const override { return 64 << 10; }
  void write(std::byte* to, const void* from, int64_t bytes) override;
  void read(void* to, const std::byte* from, int64_t bytes) override;
  void launch(const ElementKernel& kernel, int64_t count) override;
  void launch(const ReductionKernel& kernel, int64_t segments, int64_t terms) override;
  void launch(const BlockKernel& kernel) override;
  void copy(std::byte* to, const std::byte* from, int64_t bytes) override;
  std::unique_ptr<Call<ProductOperands>> prepare(const Product& product) override;
  std::unique_ptr<Call<ConvolutionOperands>> prepare(const Convolution& convolution) override;
  std::unique_ptr<Recording> record(const std::vector<Piece>& pieces, bool captured) override;
  // As if every launch and every call took a second.
  size_t fastest(const std::vector<Piece>& pieces) override;
  bool evict() override { return true; }

 private:
  friend class HostRecording;
  template <class Operands>
  friend class HostCall;

  // Calls f.operator()<Index>().
  template <class Kernel, class F>
  void with_index(const Kernel& kernel, int64_t count, F f) const {
    with_index_type(kernel, abilities_.wide_counts ? std::numeric_limits<int64_t>::max() : count, f);
  }

  void refuse_within_a_piece() const {
    if (within_piece_) throw std::logic_error("a piece allocates, copies or waits");
  }
  // A kernel is loaded as it is first launched, which must not be while recording.
  enum class KernelKind { kElement, kReduction, kBlock };
  void load(const std::pair<KernelKind, size_t>& kernel) {
    if (!recording_) {
      loaded_.insert(kernel);
    } else if (!loaded_.contains(kernel)) {
      throw std::logic_error("a kernel is recorded that was never launched");
    }
  }

  Abilities abilities_;
  Counts counts_;
  int64_t allocated_bytes_ = 0;
  std::map<std::byte*, int64_t> blocks_;
  std::vector<std::byte> parts_ = std::vector<std::byte>(kPartsBytes);
  bool within_piece_ = false;
  bool recording_ = false;
  std::set<std::pair<KernelKind, size_t>> loaded_;  // and its number
};

}  // namespace triphase::cuda
