// SPDX-License-Identifier: Apache-2.0
// Memory, recording and reading back; compile.cpp has the walk over the program.
#include "backends/cuda/plan.h"

#include <algorithm>
#include <array>
#include <thread>

#include "core/clock.h"
#include "core/elements.h"
#include "program/initial.h"

namespace triphase::cuda {
namespace {

constexpr int64_t kAlignment = 256;           // that every library's fast path asks for
constexpr int64_t kPageBytes = 256 * 1024;    // read back at a time
constexpr int64_t kPieceElements = 16 << 20;  // filled on the host and copied at a time
constexpr double kEventTick_s = 0.5e-6;       // the resolution of CUDA's events, by its documentation

// What a recording is of.
enum Recorded { kStep, kLaunchedStep, kGroups };

// Calls f(begin, end) for the parts of [0, count), in parallel.
template <class F>
void in_parallel(int64_t count, F f) {
  const int64_t threads = std::clamp<int64_t>(std::thread::hardware_concurrency(), 1, count / 65536 + 1);
  std::vector<std::jthread> others;
  for (int64_t t = 1; t < threads; ++t) others.emplace_back(f, count * t / threads, count * (t + 1) / threads);
  f(0, count / threads);
}

// Whether it is a step's input that is only flattened. (Of a kernel alone, which is nothing else, nobody reads what
// that gives.)
bool is_only_flattened(const StepProgram& program, const Tensor& tensor) {
  return tensor.role == Role::kInput && std::ranges::all_of(tensor.readers, [&](int reader) {
           const Op& op = program.ops[static_cast<size_t>(reader)];
           return std::holds_alternative<Reshape>(op.kind) && !program.tensor(op.outputs[0]).readers.empty();
         });
}

// Which tensors lie with a position's channels side by side: images, and weights of convolutions, where tensor cores
// are used, which want it; but for an input whose flattening would then take a copy, for nothing.
std::vector<char> channels_last(const StepProgram& program) {
  std::vector<char> found(program.tensors.size(), 0);
  if (program.precision == Precision::kF32) return found;
  for (size_t id = 0; id < found.size(); ++id) {
    const Tensor& tensor = program.tensors[id];
    found[id] = tensor.type.shape.size() == 4 && !is_only_flattened(program, tensor);
  }
  return found;
}

}  // namespace

CudaPlan::CudaPlan(const StepProgram& program, std::shared_ptr<Device> device, std::optional<size_t> formulation)
    : GroupedPlan(program),
      device_(std::move(device)),
      formulation_(formulation),
      channels_last_(channels_last(program)),
      storage_of_(program.tensors.size(), -1),
      group_of_op_(program.ops.size(), -1) {
  for (int op = 0; op < static_cast<int>(program.ops.size()); ++op) {
    if (group_of_op_[static_cast<size_t>(op)] < 0) compile(op);  // not fused into an earlier one
  }
  // A storage lives from the group that first writes it to the last that reads any tensor in it.
  for (TensorId id = 0; id < static_cast<TensorId>(program.tensors.size()); ++id) {
    if (!materialised(id)) continue;
    Storage& storage = storages_[static_cast<size_t>(storage_of_[static_cast<size_t>(id)])];
    const Tensor& tensor = program.tensor(id);
    if (tensor.producer < 0 || id == program.loss) storage.persistent = true;
    for (const int reader : tensor.readers) {
      storage.life.last = std::max(storage.life.last, group_of_op_[static_cast<size_t>(reader)]);
    }
  }
  place(storages_, kAlignment);
  pages_.resize(storages_.size());
}

CudaPlan::~CudaPlan() {
  recordings_.clear();
  compiled_.clear();
  drop_groups();
  for (std::byte* block : blocks_) device_->release(block);
}

MemoryPlan CudaPlan::memory_plan() const {
  MemoryPlan plan = triphase::memory_plan(storages_);
  plan.scratch_bytes = scratch_bytes_;
  return plan;
}

void CudaPlan::allocate(uint64_t seed) {
  seed_ = seed;
  const auto add_block = [&](int64_t count) {
    blocks_.push_back(device_->allocate(std::max<int64_t>(count, 1)));
    return blocks_.back();
  };
  scratch_data_ = add_block(scratch_bytes_);
  triphase::allocate(storages_, add_block);
  fill(/*only_replaced=*/false);
  // Every group runs once before anything is recorded or timed: libraries load their kernels and choose among them.
  next_step();
  for (int g = 0; g < group_index(); ++g) {
    Pending& group = compiled_[static_cast<size_t>(g)];
    if (const auto choose = std::exchange(group.choose, nullptr)) {  // what is not chosen goes with it
      const Chosen chosen = choose();
      set_implementation(static_cast<size_t>(g), chosen.implementation);
      add_traffic(static_cast<size_t>(g), chosen.more_bytes);
    }
    device_->run_named(group_name(g), [&] { run(g); });
  }
  restore();
}

void CudaPlan::restore() {
  fill(/*only_replaced=*/true);
  rewind();
}

void CudaPlan::fill(bool only_replaced) {
  for (TensorId id = 0; id < static_cast<TensorId>(program_.tensors.size()); ++id) {
    const Tensor& tensor = program_.tensor(id);
    const bool given = tensor.producer < 0 && tensor.role != Role::kScalars && materialised(id);
    if (given && (!only_replaced || tensor.next != kNoTensor)) fill(id);
  }
  forget();
}

void CudaPlan::fill(TensorId id) {
  const Tensor& tensor = program_.tensor(id);
  const InitialValues initial(program_, id, seed_);
  const auto levels = initial.levels();
  const int64_t elements = count(id);
  // The row-major index of what lies at a place.
  const auto index_of = [&](int64_t place) {
    return lies_channels_last(id) ? kernels::channels_last(place, shape(id)[2] * shape(id)[3], shape(id)[1]) : place;
  };
  const int64_t width = size_in_bytes(tensor.type.dtype);
  std::vector<std::byte> piece(static_cast<size_t>(std::min(elements, kPieceElements) * width));
  for (int64_t begin = 0; begin < elements; begin += kPieceElements) {
    const int64_t size = std::min(kPieceElements, elements - begin);
    in_parallel(size, [&](int64_t from, int64_t to) {
      if (levels) {
        with_float_type(tensor.type.dtype, [&]<class T>() {
          T* out = reinterpret_cast<T*>(piece.data());
          for (int64_t i = from; i < to; ++i) {
            out[i] = levels->values[random_level(levels->stream, static_cast<uint64_t>(index_of(begin + i)))];
          }
        });
        return;
      }
      for (int64_t i = from; i < to; ++i) store(piece.data(), tensor.type.dtype, i, initial(index_of(begin + i)));
    });
    device_->write(bytes(id) + begin * width, piece.data(), size * width);
  }
}

double CudaPlan::read(TensorId id, int64_t index) const {
  const int64_t width = size_in_bytes(dtype(id));
  const int storage = storage_of_[static_cast<size_t>(id)];
  if (lies_channels_last(id)) index = kernels::channels_last(index, shape(id)[1], shape(id)[2] * shape(id)[3]);
  const int64_t offset = index * width;
  const int64_t number = offset / kPageBytes;
  auto& pages = pages_[static_cast<size_t>(storage)];
  if (pages.empty())
    pages.resize(static_cast<size_t>(storages_[static_cast<size_t>(storage)].life.bytes / kPageBytes + 1));
  std::vector<std::byte>& page = pages[static_cast<size_t>(number)];
  if (page.empty()) {
    const int64_t begin = number * kPageBytes;
    std::vector<std::byte> found(static_cast<size_t>(std::min(kPageBytes, count(id) * width - begin)));
    device_->read(found.data(), bytes(id) + begin, static_cast<int64_t>(found.size()));
    page = std::move(found);
  }
  return load(page.data(), dtype(id), offset % kPageBytes / width);
}

void CudaPlan::begin_step(const std::vector<double>& scalars) {
  forget();
  if (!materialised(program_.scalars)) return;
  const std::vector<float> values(scalars.begin(), scalars.end());
  device_->write(bytes(program_.scalars), values.data(), static_cast<int64_t>(values.size() * sizeof(float)));
}

std::string CudaPlan::group_name(int group) const {
  std::vector<std::string> layers;
  const std::vector<int>& ops = groups()[static_cast<size_t>(group)].ops;
  for (const int op : ops) {
    const std::string& layer = program_.layers[static_cast<size_t>(op_at(op).layer)].name;
    if (std::ranges::find(layers, layer) == layers.end()) layers.push_back(layer);
  }
  std::string name;
  for (const std::string& layer : layers) name += (name.empty() ? "" : "+") + layer;
  return name + "/" + std::string(to_string(op_at(ops.front()).phase));
}

Recording& CudaPlan::recording(std::vector<int> key, const std::function<std::vector<Piece>()>& pieces, bool captured) {
  const auto found = recordings_.find(key);
  if (found != recordings_.end()) return *found->second;
  return *recordings_.emplace(std::move(key), device_->record(pieces(), captured)).first->second;
}

std::vector<Piece> CudaPlan::pieces(Marks marks) {
  const Marking& stamped = marking(marks);
  std::vector<Piece> all;
  for (int begin = 0, g = 0; g < group_index(); ++g) {
    if (!stamped.stamp_after[static_cast<size_t>(g)] && g + 1 < group_index()) continue;
    all.emplace_back([this, begin, g] {
      for (int i = begin; i <= g; ++i) run(i);
    });
    begin = g + 1;
  }
  return all;
}

Recording& CudaPlan::recorded_step(Marks marks) {
  return recording({kStep, static_cast<int>(marks)}, [&] { return pieces(marks); });
}

void CudaPlan::run_step(Marks marks, std::vector<double>& stamps_s) {
  const double begin_s = now_s();
  Recording& step = recorded_step(marks);
  next_step();
  step.run(stamps_s);
  untimed_s_ += std::max(0.0, now_s() - begin_s - (stamps_s.back() - stamps_s.front()));
}

std::optional<DeviceState> CudaPlan::state() {
  next_step();
  return device_->state(recorded_step(Marks::kNone));
}

std::optional<double> CudaPlan::run_launched_step() {
  Recording& step = recording(
      {kLaunchedStep}, [&] { return pieces(Marks::kNone); }, /*captured=*/false);
  next_step();
  std::vector<double> stamps_s;
  step.run(stamps_s);
  return stamps_s.back() - stamps_s.front();
}

// Recorded, as in a step, so that what is observed is what is timed.
void CudaPlan::run_observed(const std::function<void(int)>& before, const std::function<void(int)>& after) {
  next_step();
  for (int g = 0; g < group_index(); ++g) {
    before(g);
    run_groups(std::array{g}, 1);
    after(g);
  }
}

double CudaPlan::run_groups(std::span<const int> groups, int64_t runs) {
  std::vector<int> key(groups.begin(), groups.end());
  key.insert(key.begin(), {kGroups, static_cast<int>(runs)});
  Recording& repeated = recording(std::move(key), [&]() -> std::vector<Piece> {
    return {[this, groups = std::vector<int>(groups.begin(), groups.end()), runs] {
      for (int64_t i = 0; i < runs; ++i) {
        for (const int group : groups) run(group);
      }
    }};
  });
  forget();
  std::vector<double> stamps_s;
  repeated.run(stamps_s);
  return stamps_s.back() - stamps_s.front();
}

double CudaPlan::tick_s() const { return kEventTick_s; }

int CudaPlan::only_reader(TensorId id, Phase phase) const {
  const std::vector<int>& readers = program_.tensor(id).readers;
  return readers.size() == 1 && op_at(readers[0]).phase == phase ? readers[0] : -1;
}

void CudaPlan::put(TensorId id, TensorId alias) {
  int& storage = storage_of_[static_cast<size_t>(id)];
  if (alias != kNoTensor) {
    storage = storage_of_[static_cast<size_t>(alias)];
    return;
  }
  storage = static_cast<int>(storages_.size());
  storages_.push_back({{size_in_bytes(program_.tensor(id).type), group_index(), group_index()}});
}

void CudaPlan::place_given(int op) {
  for (const TensorId id : op_at(op).inputs) {
    if (!materialised(id) && program_.tensor(id).producer < 0) put(id);
  }
}

bool CudaPlan::dies_at(TensorId id, int op) const {
  for (TensorId other = 0; other < static_cast<TensorId>(program_.tensors.size()); ++other) {
    if (storage_of_[static_cast<size_t>(other)] != storage_of_[static_cast<size_t>(id)]) continue;
    const Tensor& tensor = program_.tensor(other);
    if (tensor.producer < 0 || (!tensor.readers.empty() && tensor.readers.back() > op)) return false;
  }
  return true;
}

std::byte* CudaPlan::bytes(TensorId id) const {
  return storages_[static_cast<size_t>(storage_of_[static_cast<size_t>(id)])].data;
}

std::function<std::byte*()> CudaPlan::scratch(int64_t wanted) {
  const int64_t offset = pending_.scratch_bytes;
  pending_.scratch_bytes += (wanted + kAlignment - 1) / kAlignment * kAlignment;
  return [this, offset] { return scratch_data_ + offset; };
}

void CudaPlan::begin(std::vector<int> ops) {
  pending_ = {};
  for (const int op : ops) {
    group_of_op_[static_cast<size_t>(op)] = group_index();
    place_given(op);
  }
  pending_.group.ops = std::move(ops);
}

void CudaPlan::touch(TensorId id) { pending_.group.traffic_bytes += size_in_bytes(program_.tensor(id).type); }

void CudaPlan::end(Implementation implementation, std::function<void()> run) {
  scratch_bytes_ = std::max(scratch_bytes_, pending_.scratch_bytes);
  pending_.group.implementation = std::move(implementation);
  Group group = pending_.group;
  compiled_.push_back(std::move(pending_));
  add_group(std::move(group), std::move(run));
}

}  // namespace triphase::cuda
