// SPDX-License-Identifier: Apache-2.0
#include "backends/onednn/plan.h"

#include <omp.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <ranges>

#include "backends/evict.h"
#include "backends/onednn/bandwidth.h"
#include "backends/onednn/kernels.h"
#include "core/clock.h"
#include "core/elements.h"
#include "program/initial.h"

namespace triphase {
namespace {

constexpr int64_t kAlignment = 64;  // a cache line, and the widest vector

// When candidates are timed.
constexpr double kClearlyFaster = 0.95;
constexpr double kHopeless = 1.5;  // times the best: not run again
constexpr double kEnough_s = 0.02;
constexpr int kMostRounds = 15;

std::byte* allocate_bytes(int64_t count) {
  constexpr int64_t kHugePage = 2 << 20;
  const int64_t alignment = count >= kHugePage ? kHugePage : kAlignment;
  const int64_t rounded = (std::max<int64_t>(count, 1) + alignment - 1) / alignment * alignment;
  void* data = std::aligned_alloc(static_cast<size_t>(alignment), static_cast<size_t>(rounded));
  if (!data) throw std::bad_alloc();
  if (alignment == kHugePage) madvise(data, static_cast<size_t>(rounded), MADV_HUGEPAGE);
  return static_cast<std::byte*>(data);
}

// Touches memory first from the threads that will use it; padding must be zero.
void zero(std::byte* data, int64_t count) {
  constexpr int64_t kPiece = 1 << 20;
#pragma omp parallel for schedule(static)
  for (int64_t begin = 0; begin < count; begin += kPiece) {
    std::memset(data + begin, 0, static_cast<size_t>(std::min(kPiece, count - begin)));
  }
}

double seconds_of(const std::function<void()>& run) {
  const double begin_s = now_s();
  run();
  return now_s() - begin_s;
}

}  // namespace

dnnl::primitive_attr primitive_attributes(bool relu) {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (relu) {
    dnnl::post_ops post;
    post.append_eltwise(dnnl::algorithm::eltwise_relu, 0, 0);
    attr.set_post_ops(post);
  }
  return attr;
}

OnednnPlan::OnednnPlan(const StepProgram& program, const CompileOptions& options, std::optional<Plant> plant)
    : GroupedPlan(program),
      options_(options),
      places_(program.tensors.size()),
      group_of_op_(program.ops.size(), -1),
      kept_until_(program.tensors.size(), -1),
      plant_(std::move(plant)) {
  for (int op = 0; op < static_cast<int>(program.ops.size()); ++op) {
    if (const auto pair = pool_and_relu(program, op)) kept_until_[static_cast<size_t>(pair->output)] = op;
  }
  omp_set_num_threads(options.threads);
  flush_denormals();
  compile();
  // A storage lives from the group that first writes it to the last that reads any tensor in it.
  for (TensorId id = 0; id < static_cast<TensorId>(program.tensors.size()); ++id) {
    if (place(id).storage < 0) continue;
    Storage& storage = storages_[static_cast<size_t>(place(id).storage)];
    const Tensor& tensor = program.tensor(id);
    if (tensor.producer < 0 || id == program.loss) storage.persistent = true;
    std::vector<int> readers = tensor.readers;
    if (const int last = last_read(id); last >= 0) readers.push_back(last);
    for (const int reader : readers) {
      storage.life.last = std::max(storage.life.last, group_of_op_[static_cast<size_t>(reader)]);
    }
  }
  triphase::place(storages_, kAlignment);
}

MemoryPlan OnednnPlan::memory_plan() const {
  MemoryPlan plan = triphase::memory_plan(storages_);
  plan.scratch_bytes = scratch_bytes_;
  return plan;
}

void OnednnPlan::allocate(uint64_t seed) {
  seed_ = seed;
  const auto add_block = [&](int64_t count) {
    blocks_.push_back({std::unique_ptr<std::byte, FreeDeleter>(allocate_bytes(count)), count});
    zero(blocks_.back().data.get(), count);
    return blocks_.back().data.get();
  };
  std::byte* scratch_data = add_block(scratch_bytes_);
  triphase::allocate(storages_, add_block);
  for (Binding& binding : bindings_) {
    binding.memory.set_data_handle(binding.storage < 0 ? scratch_data + binding.offset
                                                       : storages_[static_cast<size_t>(binding.storage)].data);
  }
  choose_candidates();
  fill(/*only_replaced=*/false);
  if (!planted_.empty()) fix_planted_work();
}

void OnednnPlan::restore() {
  fill(/*only_replaced=*/true);
  rewind();
}

void OnednnPlan::fill(bool only_replaced) {
  for (TensorId id = 0; id < static_cast<TensorId>(program_.tensors.size()); ++id) {
    const Tensor& tensor = program_.tensor(id);
    const bool given = tensor.producer < 0 && tensor.role != Role::kScalars && place(id).storage >= 0;
    if (!given || (only_replaced && tensor.next == kNoTensor)) continue;
    const InitialValues initial(program_, id, seed_);
    const std::optional<InitialValues::Levels> levels = initial.levels();
    layout(id).for_each_run([&](const Layout::Run& run) {
      if (levels && !run.terms) {
        with_kept_type(tensor.type.dtype, [&]<class T>() {
          fill_levels(data<T>(id) + run.base, levels->stream, run.first, run.stride, run.count, levels->values.data());
        });
        return;
      }
      for (int64_t i = 0; i < run.count; ++i) {
        const int64_t offset = run.base + (run.terms ? run.terms[i] : i);
        store(bytes(id), tensor.type.dtype, offset, initial(run.first + i * run.stride));
      }
    });
  }
}

double OnednnPlan::read(TensorId id, int64_t index) const {
  return load(bytes(id), program_.tensor(id).type.dtype, layout(id).offset(index));
}

bool OnednnPlan::evict() {
  for (const Block& block : blocks_) evict_by_threads(block.data.get(), block.bytes);
  return can_evict();
}

void OnednnPlan::begin_step(const std::vector<double>& scalars) {
  if (place(program_.scalars).storage < 0) return;
  std::ranges::transform(scalars, data(program_.scalars), [](double value) { return static_cast<float>(value); });
}

void OnednnPlan::put(TensorId id, const dnnl::memory::desc& desc, TensorId alias) {
  Place& slot = places_[static_cast<size_t>(id)];
  slot.layout = std::make_shared<Layout>(desc);
  if (alias != kNoTensor) {
    slot.storage = place(alias).storage;
    return;
  }
  slot.storage = static_cast<int>(storages_.size());
  storages_.push_back({{slot.layout->bytes(), group_index(), group_index()}});
}

int OnednnPlan::last_read(TensorId id) const {
  const std::vector<int>& readers = program_.tensor(id).readers;
  return std::max(readers.empty() ? -1 : readers.back(), kept_until_[static_cast<size_t>(id)]);
}

bool OnednnPlan::dies_at(TensorId id, int op) const {
  for (TensorId other = 0; other < static_cast<TensorId>(places_.size()); ++other) {
    if (place(other).storage != place(id).storage) continue;
    const Tensor& tensor = program_.tensor(other);
    if (tensor.producer < 0 || last_read(other) > op) return false;
  }
  return true;
}

dnnl::memory OnednnPlan::bind(TensorId id, const dnnl::memory::desc& view) {
  bindings_.push_back({dnnl::memory(view, engine_, DNNL_MEMORY_NONE), place(id).storage});
  return bindings_.back().memory;
}

dnnl::memory OnednnPlan::bind_as(TensorId id, const dnnl::memory::desc& wanted) {
  if (layout(id).desc() == wanted) return bind(id);
  const dnnl::memory from = bind(id);
  const dnnl::memory to = scratch(wanted);
  pending_.group.traffic_bytes += layout(id).bytes() + static_cast<int64_t>(wanted.get_size());
  pending_.before.push_back(executes(dnnl::reorder(from, to), {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}}));
  return to;
}

dnnl::memory OnednnPlan::same_bytes(const dnnl::memory& memory, const dnnl::memory::desc& view) {
  const auto newest_first = std::views::reverse(bindings_);  // it was bound for the same group
  const auto bound =
      std::ranges::find_if(newest_first, [&](const Binding& b) { return b.memory.get() == memory.get(); });
  Binding alias = *bound;
  alias.memory = dnnl::memory(view, engine_, DNNL_MEMORY_NONE);
  bindings_.push_back(alias);
  return alias.memory;
}

dnnl::memory OnednnPlan::scratch(const dnnl::memory::desc& desc) {
  bindings_.push_back({dnnl::memory(desc, engine_, DNNL_MEMORY_NONE), -1, pending_.scratch_bytes});
  const auto size = static_cast<int64_t>(desc.get_size());
  pending_.scratch_bytes += (size + kAlignment - 1) / kAlignment * kAlignment;
  return bindings_.back().memory;
}

std::function<void()> OnednnPlan::executes(const dnnl::primitive& primitive, const Args& args) const {
  return [primitive, args, stream = stream_] { primitive.execute(stream, args); };
}

void OnednnPlan::begin(std::vector<int> ops) {
  pending_ = {};
  for (const int op : ops) group_of_op_[static_cast<size_t>(op)] = group_index();
  pending_.group.ops = std::move(ops);
}

void OnednnPlan::touch(TensorId id) { pending_.group.traffic_bytes += layout(id).bytes(); }

void OnednnPlan::end(std::vector<Candidate> candidates) {
  scratch_bytes_ = std::max(scratch_bytes_, pending_.scratch_bytes);
  for (Candidate& candidate : candidates) {
    if (pending_.before.empty()) break;
    candidate.implementation.name += "+reorder";
    candidate.run = [before = pending_.before, run = std::move(candidate.run)] {
      for (const auto& reorder : before) reorder();
      run();
    };
  }
  pending_.group.implementation = candidates.front().implementation;
  const size_t index = groups().size();
  candidates_.push_back(std::move(candidates));
  chosen_.push_back(0);
  if (plant_ && slows(*plant_, program_, pending_.group)) {
    planted_[index] = {};
    add_group(std::move(pending_.group), [this, index] {
      candidates_[index][chosen_[index]].run();
      const Planted& planted = planted_.at(index);
      planted_rounds_run_ += planted_work(planted.rounds, planted.threads);
    });
    return;
  }
  add_group(std::move(pending_.group), [this, index] { candidates_[index][chosen_[index]].run(); });
}

void OnednnPlan::fix_planted_work() {
  constexpr int kSteps = 5;
  constexpr double kWorthForking_s = 50e-6;  // shorter work is the calling thread's alone
  std::map<size_t, double> least_s;
  double begin_s = 0;
  for (int step = 0; step < kSteps; ++step) {
    run_observed([&](int) { begin_s = now_s(); },
                 [&](int group) {
                   const auto g = static_cast<size_t>(group);
                   const double elapsed_s = now_s() - begin_s;
                   const auto [known, first] = least_s.emplace(g, elapsed_s);
                   known->second = std::min(known->second, elapsed_s);
                 });
  }
  restore();
  for (auto& [group, planted] : planted_) {
    const double extra_s = plant_->percent / 100 * least_s.at(group);
    planted.threads = extra_s > kWorthForking_s ? options_.threads : 1;
    planted.rounds = planted_rounds(extra_s, planted.threads);
  }
}

void OnednnPlan::choose_candidates() {
  for (size_t g = 0; g < candidates_.size(); ++g) {
    std::vector<Candidate>& candidates = candidates_[g];
    if (options_.formulation) chosen_[g] = std::min(*options_.formulation, candidates.size() - 1);
    if (candidates.size() < 2 || options_.formulation) continue;
    std::vector<double> best_s(candidates.size(), 1e300);
    double spent_s = 0;
    for (int round = 0; round < kMostRounds && (round < 2 || spent_s < kEnough_s * static_cast<double>(round));
         ++round) {
      for (size_t c = 0; c < candidates.size(); ++c) {
        if (best_s[c] > kHopeless * std::ranges::min(best_s) && round > 0) continue;
        const double elapsed_s = seconds_of(candidates[c].run);
        best_s[c] = std::min(best_s[c], elapsed_s);
        spent_s += elapsed_s;
      }
    }
    for (size_t c = 1; c < candidates.size(); ++c) {
      if (best_s[c] < kClearlyFaster * best_s[chosen_[g]]) chosen_[g] = c;
    }
  }
  for (const Op& op : program_.ops) {
    if (std::holds_alternative<Update>(op.kind) && !options_.formulation) choose_together(op);
  }
  for (size_t g = 0; g < candidates_.size(); ++g) set_implementation(g, candidates_[g][chosen_[g]].implementation);
}

void OnednnPlan::choose_together(const Op& update) {
  constexpr int64_t kMostBytes = 8 << 20;  // beyond, a core's cache keeps nothing of a parameter
  const TensorId w = update.inputs[0];
  const int gradient_op = program_.tensor(update.inputs[1]).producer;
  if (gradient_op < 0) return;  // an update alone
  if (layout(w).bytes() > kMostBytes || !std::holds_alternative<MatMul>(op_at(gradient_op).kind)) return;
  std::vector<int> ops = program_.tensor(w).readers;
  ops.push_back(gradient_op);
  std::vector<size_t> in_order;
  for (const int op : ops) in_order.push_back(static_cast<size_t>(group_of_op_[static_cast<size_t>(op)]));
  std::ranges::sort(in_order);
  std::vector<size_t> alone;
  std::vector<size_t> together;
  for (const size_t g : in_order) {
    const auto parted = std::ranges::find_if(candidates_[g], &Candidate::parts_weights);
    alone.push_back(chosen_[g]);
    together.push_back(parted == candidates_[g].end() ? chosen_[g]
                                                      : static_cast<size_t>(parted - candidates_[g].begin()));
  }
  if (alone == together) return;
  const auto run = [&](const std::vector<size_t>& choice) {
    return seconds_of([&] {
      for (size_t i = 0; i < in_order.size(); ++i) candidates_[in_order[i]][choice[i]].run();
    });
  };
  double alone_s = 1e300;
  double together_s = 1e300;
  for (int round = 0; round < kMostRounds && (round < 2 || alone_s * round < kEnough_s); ++round) {
    alone_s = std::min(alone_s, std::min(run(alone), run(alone)));  // the second finds what the first left
    together_s = std::min(together_s, std::min(run(together), run(together)));
  }
  if (together_s >= kClearlyFaster * alone_s) return;
  for (size_t i = 0; i < in_order.size(); ++i) chosen_[in_order[i]] = together[i];
}

}  // namespace triphase
