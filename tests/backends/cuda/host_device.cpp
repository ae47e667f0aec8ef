// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/host_device.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <cstring>

#include "core/clock.h"
#include "core/elements.h"
#include "core/error.h"

namespace triphase::cuda {
namespace {

constexpr int64_t kAlignment = 256;
constexpr int64_t kWorkspaceBytes = 100;
constexpr int64_t kBlocks = 50;   // that a reduction is worth
constexpr int64_t kThreads = 37;  // that share elements

// As a GPU multiplies it: TF32 has 11 bits of significand, and may cut off what follows.
double operand(const std::byte* data, Precision precision, int64_t index) {
  const auto value = static_cast<float>(load(data, dtype_of(precision), index));
  return precision == Precision::kTF32 ? std::bit_cast<float>(std::bit_cast<uint32_t>(value) & 0xffffe000) : value;
}

void run(const Product& product, const ProductOperands& at) {
  const DType dtype = dtype_of(product.precision);
  const auto a = [&](int64_t i, int64_t k) {
    return operand(at.a, product.precision, product.transpose_a ? k * product.m + i : i * product.k + k);
  };
  const auto b = [&](int64_t k, int64_t j) {
    return operand(at.b, product.precision, product.transpose_b ? j * product.k + k : k * product.n + j);
  };
  const bool relu = does_relu(product.epilogue);
  for (int64_t i = 0; i < product.m; ++i) {
    for (int64_t j = 0; j < product.n; ++j) {
      double sum = adds_bias(product.epilogue) ? load(at.bias, dtype, j) : 0;
      for (int64_t k = 0; k < product.k; ++k) sum += a(i, k) * b(k, j);
      store(at.y, dtype, i * product.n + j, relu && !(sum > 0) ? 0 : sum);
    }
    if (product.epilogue != Epilogue::kBiasGradient) continue;
    double sum = 0;
    for (int64_t k = 0; k < product.k; ++k) sum += a(i, k);
    store(at.bias, dtype, i, sum);
  }
}

// Block after block, and in each stage thread after thread.
template <int kTogether, class Index, class Kernel>
void reduce(const Kernel& kernel, Index segments, Index terms) {
  std::array<typename Kernel::Sum, kReducers> sums;
  for (Index number = 0; number * kTogether < segments; ++number) {
    const ReducingBlock<kTogether, Index, Kernel> block{kernel, segments, terms, number, sums.data()};
    for (int thread = 0; thread < kReducers; ++thread) block.sum(thread);
    for (int half = block.kOfSegment / 2; half > 0; half /= 2) {
      for (int thread = 0; thread < kReducers; ++thread) block.merge(thread, half);
    }
    for (int thread = 0; thread < kReducers; ++thread) block.finish(thread);
  }
}

// One of a convolution's three tensors, row-major as NCHW whatever lies in memory.
class Image {
 public:
  Image(const Convolution& of, const Shape& shape, std::byte* data) : of_(of), shape_(shape), data_(data) {}

  void read() {
    for (int64_t i = 0; i < element_count(shape_); ++i) values_.push_back(operand(data_, of_.precision, place(i)));
  }
  void clear() { values_.assign(static_cast<size_t>(element_count(shape_)), 0); }
  void write() const {
    for (int64_t i = 0; i < element_count(shape_); ++i) {
      store(data_, dtype_of(of_.precision), place(i), values_[static_cast<size_t>(i)]);
    }
  }
  double& at(int64_t a, int64_t b, int64_t c, int64_t d) {
    return values_[static_cast<size_t>(((a * shape_[1] + b) * shape_[2] + c) * shape_[3] + d)];
  }

 private:
  int64_t place(int64_t i) const {
    return of_.channels_last ? kernels::channels_last(i, shape_[1], shape_[2] * shape_[3]) : i;
  }

  const Convolution& of_;
  const Shape& shape_;
  std::byte* data_;
  std::vector<double> values_;
};

void run(const Convolution& that, const ConvolutionOperands& operands) {
  using Direction = Convolution::Direction;
  const auto& [direction, conv, x_shape, w_shape, y_shape, precision, channels_last, epilogue] = that;
  const Window& window = conv.window;
  Image x(that, x_shape, operands.x);
  Image w(that, w_shape, operands.w);
  Image y(that, y_shape, operands.y);
  Image& result = direction == Direction::kForward ? y : direction == Direction::kBackwardData ? x : w;
  for (Image* image : {&x, &w, &y}) image == &result ? image->clear() : image->read();
  for (int64_t n = 0; n < y_shape[0]; ++n) {
    for (int64_t k = 0; k < y_shape[1]; ++k) {
      const int64_t first_channel = k / (w_shape[0] / conv.groups) * w_shape[1];
      for (int64_t row = 0; row < y_shape[2]; ++row) {
        for (int64_t column = 0; column < y_shape[3]; ++column) {
          double& of_y = y.at(n, k, row, column);
          for (int64_t c = 0; c < w_shape[1]; ++c) {
            for (int64_t i = 0; i < w_shape[2]; ++i) {
              const int64_t r = row * window.stride[0] - window.padding[0] + i * window.dilation[0];
              if (r < 0 || r >= x_shape[2]) continue;
              for (int64_t j = 0; j < w_shape[3]; ++j) {
                const int64_t s = column * window.stride[1] - window.padding[1] + j * window.dilation[1];
                if (s < 0 || s >= x_shape[3]) continue;
                double& of_x = x.at(n, first_channel + c, r, s);
                double& of_w = w.at(k, c, i, j);
                if (direction == Direction::kForward) {
                  of_y += of_x * of_w;
                } else if (direction == Direction::kBackwardData) {
                  of_x += of_y * of_w;
                } else {
                  of_w += of_y * of_x;
                }
              }
            }
          }
          if (adds_bias(epilogue)) of_y += load(operands.bias, dtype_of(precision), k);
          if (does_relu(epilogue)) of_y = std::max(of_y, 0.0);
        }
      }
    }
  }
  result.write();
}

}  // namespace

// Writes over its workspace, as a library may.
template <class Operands>
class HostCall : public Call<Operands> {
 public:
  HostCall(HostDevice& device, Epilogue epilogue, std::function<void(const Operands&)> run)
      : device_(device),
        counts_as_(epilogue != Epilogue::kNone && device.abilities_.slow_epilogues ? 3 : 1),
        run_(std::move(run)) {}
  std::string implementation() const override { return tuned_ ? "host:tuned" : "host"; }
  int64_t workspace_bytes() const override { return kWorkspaceBytes; }
  void tune(const Operands& operands, std::byte* workspace) override {
    run(operands, workspace);
    tuned_ = true;
    ++device_.counts_.tuned;
  }
  void run(const Operands& operands, std::byte* workspace) override {
    std::memset(workspace, 0xff, kWorkspaceBytes);
    run_(operands);
    device_.counts_.calls += counts_as_;
  }

 private:
  HostDevice& device_;
  int64_t counts_as_;
  std::function<void(const Operands&)> run_;
  bool tuned_ = false;
};

class HostRecording : public Recording {
 public:
  HostRecording(HostDevice& device, std::vector<Piece> pieces, bool captured)
      : device_(device), pieces_(std::move(pieces)), captured_(captured) {}
  void start() override {
    std::vector<double> stamps_s;
    run(stamps_s);
  }
  void run(std::vector<double>& stamps_s) override {
    stamps_s = {now_s()};
    device_.within_piece_ = true;
    device_.recording_ = captured_;
    for (const Piece& piece : pieces_) {
      piece();
      stamps_s.push_back(now_s());
    }
    device_.within_piece_ = device_.recording_ = false;
  }

 private:
  HostDevice& device_;
  std::vector<Piece> pieces_;
  bool captured_;
};

std::byte* HostDevice::allocate(int64_t bytes) {
  refuse_within_a_piece();
  if (bytes > free_bytes()) throw OutOfMemory("the device has too little memory");
  const int64_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  auto* data = static_cast<std::byte*>(std::aligned_alloc(kAlignment, static_cast<size_t>(rounded)));
  std::memset(data, 0, static_cast<size_t>(rounded));
  blocks_[data] = bytes;
  allocated_bytes_ += bytes;
  return data;
}

void HostDevice::release(std::byte* data) {
  allocated_bytes_ -= blocks_.at(data);
  blocks_.erase(data);
  std::free(data);
}

void HostDevice::write(std::byte* to, const void* from, int64_t bytes) {
  refuse_within_a_piece();
  std::memcpy(to, from, static_cast<size_t>(bytes));
}

void HostDevice::read(void* to, const std::byte* from, int64_t bytes) {
  refuse_within_a_piece();
  std::memcpy(to, from, static_cast<size_t>(bytes));
}

void HostDevice::launch(const ElementKernel& kernel, int64_t count) {
  load({KernelKind::kElement, kernel.index()});
  counts_.elements += count;
  ++counts_.launches;
  std::visit(
      [&](const auto& call) {
        with_index(call, count, [&]<class Index>() {
          const auto threads = static_cast<Index>(std::min(count, kThreads));
          for (Index thread = 0; thread < threads; ++thread) {
            compute_elements(call, thread, threads, static_cast<Index>(count));
          }
        });
      },
      kernel);
}

void HostDevice::launch(const ReductionKernel& kernel, int64_t segments, int64_t terms) {
  load({KernelKind::kReduction, kernel.index()});
  counts_.elements += segments * terms;
  std::visit(
      [&](const auto& call) {
        reduce_in_parts(
            call, segments, terms, [](auto, auto) { return kBlocks; }, parts_.data(),
            [this](const auto& each, int64_t of_segments, int64_t of_terms, auto adjacent) {
              ++counts_.launches;
              with_index(each, of_segments * of_terms, [&]<class Index>() {
                with_together(adjacent, [&]<int kTogether>() {
                  reduce<kTogether>(each, static_cast<Index>(of_segments), static_cast<Index>(of_terms));
                });
              });
            });
      },
      kernel);
}

void HostDevice::launch(const BlockKernel& kernel) {
  load({KernelKind::kBlock, kernel.index()});
  ++counts_.launches;
  std::visit(
      []<class Kernel>(const Kernel& call) {
        typename Kernel::Shared shared;
        for (int stage = 0; stage < call.stages(); ++stage) {
          for (int thread = 0; thread < Kernel::kThreads; ++thread) call.run(stage, thread, shared);
        }
      },
      kernel);
}

void HostDevice::copy(std::byte* to, const std::byte* from, int64_t bytes) {
  ++counts_.launches;
  std::memcpy(to, from, static_cast<size_t>(bytes));
}

std::unique_ptr<Call<ProductOperands>> HostDevice::prepare(const Product& product) {
  const bool gradient = product.epilogue == Epilogue::kBiasGradient;
  if (gradient && !abilities_.bias_gradients) throw Unimplemented("a product with a bias gradient");
  if (!gradient && product.epilogue != Epilogue::kNone && !abilities_.epilogues) {
    throw Unimplemented("a product with a bias or ReLU");
  }
  return std::make_unique<HostCall<ProductOperands>>(*this, product.epilogue,
                                                     [product](const ProductOperands& at) { cuda::run(product, at); });
}

std::unique_ptr<Call<ConvolutionOperands>> HostDevice::prepare(const Convolution& convolution) {
  if (!abilities_.convolutions) throw Unimplemented("convolutions: there is no library for them");
  if (convolution.epilogue != Epilogue::kNone && !abilities_.epilogues) {
    throw Unimplemented("a convolution with a bias or ReLU");
  }
  return std::make_unique<HostCall<ConvolutionOperands>>(
      *this, convolution.epilogue, [convolution](const ConvolutionOperands& at) { cuda::run(convolution, at); });
}

std::unique_ptr<Recording> HostDevice::record(const std::vector<Piece>& pieces, bool captured) {
  refuse_within_a_piece();
  ++counts_.recordings;
  return std::make_unique<HostRecording>(*this, pieces, captured);
}

size_t HostDevice::fastest(const std::vector<Piece>& pieces) {
  std::vector<int64_t> launched;
  std::vector<double> stamps_s;
  for (const Piece& piece : pieces) {
    const Counts before = counts_;
    piece();
    record({piece}, /*captured=*/true)->run(stamps_s);
    launched.push_back(counts_.launches - before.launches + counts_.calls - before.calls);
  }
  return static_cast<size_t>(std::ranges::min_element(launched) - launched.begin());
}

}  // namespace triphase::cuda
