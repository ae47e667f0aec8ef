// SPDX-License-Identifier: Apache-2.0
// A compiled step on oneDNN. Compiling walks the program once: it fuses, picks a layout for every tensor from what the
// primitives ask for, shares memory by liveness, and leaves one closure a group. Weights of linear layers lie as
// [in, out] matrices, which serves all three products and the update without a reorder; convolutions choose their own
// (format_tag::any), and gradients take the layout of what they are the gradient of.
#pragma once

#include <dnnl.hpp>
#include <map>
#include <memory>
#include <optional>
#include <unordered_map>

#include "backends/grouped_plan.h"
#include "backends/onednn/layout.h"
#include "backends/onednn/plant.h"
#include "backends/onednn/pool_gradient.h"
#include "backends/storage.h"

namespace triphase {

// A max-pool of a ReLU's output, whose backward may run together with the ReLU's.
struct PoolAndRelu {
  TensorId input = kNoTensor;   // of the pool
  TensorId output = kNoTensor;  // of the pool
  int relu_backward = -1;       // an op
};

// That of a max-pool's backward op where no other op reads the gradient between the two.
std::optional<PoolAndRelu> pool_and_relu(const StepProgram& program, int pool_backward);

// The caller's scratchpad, and a ReLU on the result where asked.
dnnl::primitive_attr primitive_attributes(bool relu = false);

class OnednnPlan : public GroupedPlan {
 public:
  OnednnPlan(const StepProgram& program, const CompileOptions& options, std::optional<Plant> plant = built_in_plant());

  MemoryPlan memory_plan() const override;
  void allocate(uint64_t seed) override;
  void restore() override;
  Extent extent(TensorId id) const override {
    const int storage = place(id).storage;
    return storage < 0 ? Extent() : storages_[static_cast<size_t>(storage)].extent();
  }
  double read(TensorId id, int64_t index) const override;
  bool evict() override;

  // Rounds of planted work that all threads have run so far.
  int64_t planted_rounds_run() const { return planted_rounds_run_; }

 protected:
  void begin_step(const std::vector<double>& scalars) override;

 private:
  using Args = std::unordered_map<int, dnnl::memory>;

  // Where a tensor's elements are. Tensors that alias (views, updates in place) share a storage.
  struct Place {
    int storage = -1;
    std::shared_ptr<const Layout> layout;  // null for what fusion keeps in registers
  };
  // A memory object whose address is known only after allocate().
  struct Binding {
    dnnl::memory memory;
    int storage = -1;    // -1: scratch
    int64_t offset = 0;  // into scratch
  };
  // One way to compute a group. Where there are several, allocate() times them and keeps the first unless another is
  // clearly faster.
  struct Candidate {
    Implementation implementation;
    std::function<void()> run;
    bool parts_weights = false;  // among the threads as the update does, to find them in a core's own cache
  };
  // The group that is being compiled: its scratch and its traffic.
  struct Pending {
    Group group;
    int64_t scratch_bytes = 0;
    std::vector<std::function<void()>> before;  // inserted reorders
  };
  struct FreeDeleter {
    void operator()(std::byte* data) const { std::free(data); }
  };
  struct Block {
    std::unique_ptr<std::byte, FreeDeleter> data;
    int64_t bytes = 0;
  };

  // One function a kind of op; `op` is its index. In compile.cpp:
  void compile();
  void compile_forward_product(int op);
  void compile_matmul(int op, std::vector<int> ops, TensorId bias, TensorId output, bool relu);
  void compile_matmul_backward_data(int op);
  void compile_matmul_backward_weights(int op, std::optional<int> bias_op);
  // convolution.cpp
  void compile_conv(int op, std::vector<int> ops, TensorId bias, TensorId output, bool relu);
  void compile_conv_backward_data(int op);
  // dx as a forward convolution of dy; absent where that is none or the library has none in these layouts.
  std::optional<Candidate> turned_convolution(const Conv2d& conv, TensorId w, const dnnl::memory& dy,
                                              const dnnl::memory& dx);
  void compile_conv_backward_weights(int op, std::optional<int> bias_op);
  // pool_and_norm.cpp
  void compile_pool(int op, const Window& window, dnnl::algorithm algorithm);
  void compile_pool_backward(int op, const Window& window, dnnl::algorithm algorithm);
  // Compiles a max-pool's backward with that of the ReLU before it, if the layouts are such that an own loop can.
  bool compile_pool_and_relu_backward(int op);
  // The own loop for a max-pool's gradient; absent where it does not do these layouts.
  std::optional<PoolGradient> pool_gradient(const MaxPool2dBackward& kind, const dnnl::memory::desc& x,
                                            const dnnl::memory::desc& y, TensorId tap) const;
  // Its ways to write dx. `output` is the pool's, or kNoTensor without a ReLU.
  std::vector<Candidate> pool_gradients(const std::string& name, PoolGradient gradient, const dnnl::memory& dy,
                                        TensorId output, TensorId tap, TensorId dx) const;
  // Ends the group with a plain loop over windows that overlap, in bf16.
  void end_pool_backward_loop(int op, dnnl::algorithm algorithm, const Window& window, const dnnl::memory& dy,
                              std::pair<int64_t, int64_t> stretches);
  void compile_batch_norm(int op);
  void compile_batch_norm_backward(int op);
  // elementwise.cpp
  void compile_pointwise(int op);
  void compile_reshape(int op);
  void compile_loss(int op);
  void compile_update(int op);
  void compile_statistics(int op);
  void compile_convert(int op);
  // The place of a parameter's copy, where the copy that it replaces was; `parameter` as it is laid out.
  void put_copy(TensorId copy, TensorId parameter);

  const Op& op_at(int op) const { return program_.ops[static_cast<size_t>(op)]; }
  const Place& place(TensorId id) const { return places_[static_cast<size_t>(id)]; }
  const Layout& layout(TensorId id) const { return *place(id).layout; }
  const TensorType& type(TensorId id) const { return program_.tensor(id).type; }
  int group_index() const { return static_cast<int>(groups().size()); }
  // What activations, their gradients and the weights that layers read are kept in.
  DType dtype() const { return dtype_of(program_.precision); }

  // Places what a kernel alone is given and a whole step would have computed or placed before this op.
  void place_given(int op);
  // Places what an update is given and no other op placed: a parameter that layers read a copy of, its gradient.
  void place_given_to_update(int op);
  // How a convolution would leave a tensor of that shape; row-major where it is no image.
  dnnl::memory::desc usual_layout(const TensorType& type) const;
  // And how it would read narrow weights, or leave their gradient; absent for all else.
  std::optional<dnnl::memory::desc> usual_weights(const TensorType& type, bool gradient = false) const;
  // Gives a tensor its layout and a storage of its own, or that of `alias`.
  void put(TensorId id, const dnnl::memory::desc& desc, TensorId alias = kNoTensor);
  // The last op to read a tensor, by the program or because this backend fuses others; -1 if none.
  int last_read(TensorId id) const;
  // Whether nothing reads `id`'s storage after `op`, so that the op may write over it.
  bool dies_at(TensorId id, int op) const;
  // The stored elements, once allocated.
  template <class T = float>
  T* data(TensorId id) const {
    return reinterpret_cast<T*>(bytes(id));
  }
  std::byte* bytes(TensorId id) const { return storages_[static_cast<size_t>(place(id).storage)].data; }

  // Memory objects for primitives: of a tensor as it lies, seen as another desc of the same bytes, or in another layout
  // by a reorder inserted into the pending group.
  dnnl::memory bind(TensorId id) { return bind(id, layout(id).desc()); }
  dnnl::memory bind(TensorId id, const dnnl::memory::desc& view);
  dnnl::memory bind_as(TensorId id, const dnnl::memory::desc& wanted);
  // Another view of whatever `memory` is bound to.
  dnnl::memory same_bytes(const dnnl::memory& memory, const dnnl::memory::desc& view);
  dnnl::memory scratch(const dnnl::memory::desc& desc);
  std::function<void()> executes(const dnnl::primitive& primitive, const Args& args) const;

  void begin(std::vector<int> ops);
  void touch(TensorId id);  // counts an operand's planned traffic
  // Ends the pending group. Candidates of one group share its scratch and reorders.
  void end(std::vector<Candidate> candidates);
  // Fixes how much planted work follows each group that is slowed, by the group's own time in whole steps.
  void fix_planted_work();
  void choose_candidates();
  // Revises the choices for a parameter's products by timing them in a row with its update.
  void choose_together(const Op& update);
  void fill(bool only_replaced);

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  CompileOptions options_;
  std::vector<Place> places_;  // by tensor
  std::vector<Storage> storages_;
  std::vector<Binding> bindings_;
  std::vector<int> group_of_op_;
  std::vector<int> kept_until_;  // by tensor: an op that reads it beside those that the program says, or -1
  std::vector<std::vector<Candidate>> candidates_;  // by group
  std::vector<size_t> chosen_;                      // by group
  std::optional<Plant> plant_;
  struct Planted {
    int64_t rounds = 0;
    int threads = 1;
  };
  std::map<size_t, Planted> planted_;  // by group, of those that are slowed
  int64_t planted_rounds_run_ = 0;
  Pending pending_;
  int64_t scratch_bytes_ = 0;
  std::vector<Block> blocks_;
  uint64_t seed_ = 0;
};

}  // namespace triphase
