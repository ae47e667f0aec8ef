// SPDX-License-Identifier: Apache-2.0
// A compiled step on a GPU. Compiling walks the program once: it fuses, shares memory by liveness, and leaves one
// closure a group that launches the group's work on the device. Every tensor is row-major, but for images with their
// channels last where tensor cores are used. A whole step is recorded once for each level of marks, and so runs as one
// graph, in the order and the memory of training.
//
// Through cuBLASLt: products with their bias, ReLU and bias gradient. Through cuDNN: convolutions with their bias and
// ReLU. Where own kernels after the bare call are faster, those instead. By own kernels: all that moves memory and
// little else. Small parameters are updated together, in one kernel.
#pragma once

#include <map>
#include <memory>
#include <optional>

#include "backends/cuda/device.h"
#include "backends/grouped_plan.h"
#include "backends/storage.h"

namespace triphase::cuda {

class CudaPlan : public GroupedPlan {
 public:
  // `formulation` is that of CompileOptions. Throws Unimplemented for what the device has no way to run.
  CudaPlan(const StepProgram& program, std::shared_ptr<Device> device, std::optional<size_t> formulation = {});
  ~CudaPlan() override;

  MemoryPlan memory_plan() const override;
  void allocate(uint64_t seed) override;
  void restore() override;
  void run_step(Marks marks, std::vector<double>& stamps_s) override;
  void run_observed(const std::function<void(int)>& before, const std::function<void(int)>& after) override;
  double run_groups(std::span<const int> groups, int64_t runs) override;
  double tick_s() const override;
  double untimed_s() const override { return untimed_s_; }
  bool marks_cost_time() const override { return true; }
  bool on_host() const override { return false; }
  std::optional<DeviceState> state() override;
  std::optional<double> run_launched_step() override;
  Extent extent(TensorId id) const override {
    const int storage = storage_of_[static_cast<size_t>(id)];
    return storage < 0 ? Extent() : storages_[static_cast<size_t>(storage)].extent();
  }
  double read(TensorId id, int64_t index) const override;
  bool evict() override { return device_->evict(); }

 protected:
  void begin_step(const std::vector<double>& scalars) override;

 private:
  // One way to run a group: a library's call, then own kernels for what the call leaves out.
  template <class Operands>
  struct Formulation {
    std::shared_ptr<Call<Operands>> call;
    std::string suffix;               // of the implementation's name, for the own kernels
    std::function<void()> then = {};  // launches them
    int64_t more_bytes = 0;           // that they move
  };
  struct Chosen {
    Implementation implementation;
    int64_t more_bytes = 0;  // of traffic than was counted
  };
  // The group that is being compiled.
  struct Pending {
    Group group;
    int64_t scratch_bytes = 0;
    std::function<Chosen()> choose;  // among formulations, and a library's algorithms, once there is memory
  };

  // A forward product or convolution with the bias, and then the ReLU, that alone read it.
  struct Fused {
    std::vector<int> ops;
    TensorId y = kNoTensor;
    TensorId bias = kNoTensor;
    bool relu = false;

    Epilogue epilogue() const {
      if (bias == kNoTensor) return relu ? Epilogue::kRelu : Epilogue::kNone;
      return relu ? Epilogue::kBiasRelu : Epilogue::kBias;
    }
  };
  Fused fused(int op) const;

  // One function a kind of op, or several; `op` is its index. All are in compile.cpp.
  void compile(int op);
  void compile_product(int op, const MatMul& kind);
  void compile_bias_gradient(int op);
  void compile_convolution(int op, Convolution::Direction direction, const Conv2d& conv, TensorId x, TensorId w,
                           TensorId y);
  void compile_convolution(int op, const Conv2d& conv);
  void compile_add_bias(int op);
  void compile_reshape(int op);
  void compile_max_pool(int op, const Window& window);
  void compile_max_pool_backward(int op, const MaxPool2dBackward& kind);
  void compile_average_pool(int op, const AvgPool2d& kind);
  void compile_average_pool_backward(int op, const AvgPool2dBackward& kind);
  void compile_batch_norm(int op, const BatchNorm2d& kind);
  void compile_batch_norm_backward(int op, const BatchNorm2dBackward& kind);
  void compile_running_statistics(int op, const RunningStatistics& kind);
  void compile_softmax_cross_entropy(int op);
  void compile_mean_square(int op);
  void compile_update(int op, const Update& kind);
  void compile_convert(int op);
  void launch_add_bias(TensorId x, TensorId bias, TensorId y, bool relu);
  // Its bias and ReLU by own kernels, on y in place.
  template <class Operands>
  Formulation<Operands> own_epilogue(const Fused& fused);
  // A group of this op alone that is one element kernel over `over`'s elements, `width` of them at a time.
  // make.operator()<T>(), T being what they are kept in, is called as it is launched, when addresses are known.
  template <class F>
  void end_elementwise(int op, TensorId over, F make);
  // The same of so many elements, such as packs of `over`'s.
  template <class F>
  void end_elementwise(int op, TensorId over, int64_t elements, F make);
  // The same of a pool of x, or its backward: make.operator()<T, channels at a time>(pooling).
  // Of the result's packs of channels, or of `elements`.
  using ElementsOfPool = int64_t (*)(const kernels::Pooling&);
  template <class F>
  void end_pool(int op, const Window& window, TensorId x, TensorId y, F make, ElementsOfPool elements = nullptr);

  const Op& op_at(int op) const { return program_.ops[static_cast<size_t>(op)]; }
  const Shape& shape(TensorId id) const { return program_.tensor(id).type.shape; }
  int64_t count(TensorId id) const { return element_count(shape(id)); }
  int64_t channels(TensorId id) const { return shape(id)[1]; }
  bool lies_channels_last(TensorId id) const { return channels_last_[static_cast<size_t>(id)] != 0; }
  // How many neighbours in memory are of one channel.
  int64_t inner(TensorId id) const { return lies_channels_last(id) ? 1 : count(id) / shape(id)[0] / shape(id)[1]; }
  // Calls f.operator()<kWidth>() with how many channels side by side a thread computes at once: packs, if they fill
  // them.
  template <class F>
  auto with_channels_together(TensorId id, F f) const {
    constexpr int kWidth = kernels::kChannelsTogether;
    if (lies_channels_last(id) && channels(id) % kWidth == 0) return f.template operator()<kWidth>();
    return f.template operator()<1>();
  }
  DType dtype(TensorId id) const { return program_.tensor(id).type.dtype; }
  int group_index() const { return static_cast<int>(groups().size()); }
  // The only op that reads a tensor if it belongs to the same phase, else -1.
  int only_reader(TensorId id, Phase phase) const;

  // Gives a tensor a storage of its own, or that of `alias`.
  void put(TensorId id, TensorId alias = kNoTensor);
  // Gives what the step is given, and this op is the first to read, a place.
  void place_given(int op);
  bool dies_at(TensorId id, int op) const;
  // A tensor's place where an op may write over `over` if nothing reads that any more.
  void put_over(TensorId id, TensorId over, int op) { put(id, dies_at(over, op) ? over : kNoTensor); }
  std::byte* bytes(TensorId id) const;
  template <class T = float>
  T* data(TensorId id) const {
    return reinterpret_cast<T*>(bytes(id));
  }
  template <class T, int kWidth>
  kernels::Pack<T, kWidth>* packs(TensorId id) const {
    return data<kernels::Pack<T, kWidth>>(id);
  }
  // An address in the scratch that all groups share, known after allocate().
  std::function<std::byte*()> scratch(int64_t bytes);

  void begin(std::vector<int> ops);
  void touch(TensorId id);  // counts an operand's planned traffic
  void end(Implementation implementation, std::function<void()> run);
  // A library's call, of a Product or a Convolution. With an epilogue, or without one and `otherwise` after it,
  // whichever is faster and the device has.
  template <class Work, class Operands>
  void end_call(Work work, std::function<Operands()> operands, Formulation<Operands> otherwise = {});

  void fill(bool only_replaced);
  void fill(TensorId id);
  Recording& recording(std::vector<int> key, const std::function<std::vector<Piece>()>& pieces, bool captured = true);
  Recording& recorded_step(Marks marks);
  // A step's work, in pieces that end where a stamp is asked for.
  std::vector<Piece> pieces(Marks marks);
  // The layers and the phase whose ops it has: "conv1+relu1/forward". scripts/count_flop reads it.
  std::string group_name(int group) const;
  // What was read back is out of date.
  void forget() const {
    for (auto& pages : pages_) pages.clear();
  }

  std::shared_ptr<Device> device_;
  std::optional<size_t> formulation_;
  std::vector<char> channels_last_;  // by tensor
  std::vector<int> storage_of_;      // by tensor; -1: not in memory
  std::vector<Storage> storages_;
  std::vector<int> group_of_op_;
  std::vector<Pending> compiled_;  // by group
  Pending pending_;
  int64_t scratch_bytes_ = 0;
  std::byte* scratch_data_ = nullptr;
  std::vector<std::byte*> blocks_;
  std::map<std::vector<int>, std::unique_ptr<Recording>> recordings_;
  double untimed_s_ = 0;
  mutable std::vector<std::vector<std::vector<std::byte>>> pages_;  // read back, by storage and number
  uint64_t seed_ = 0;
};

}  // namespace triphase::cuda
