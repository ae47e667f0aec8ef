// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/host_device.h"

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
constexpr int64_t kBlocks = 50;  // that a reduction is worth

// As a GPU multiplies it: TF32 has 11 bits of significand, and may cut off what follows.
double operand(const std::byte* data, Precision precision, int64_t index) {
  const auto value = static_cast<float>(load(data, dtype_of(precision), index));
  return precision == Precision::kTF32 ? std::bit_cast<float>(std::bit_cast<uint32_t>(value) & 0xffffe000) : value;
}

void run(const Product& product, const ProductOperands& at) {
  using Epilogue = Product::Epilogue;
  const DType dtype = dtype_of(product.precision);
  const auto a = [&](int64_t i, int64_t k) {
    return operand(at.a, product.precision, product.transpose_a ? k * product.m + i : i * product.k + k);
  };
  const auto b = [&](int64_t k, int64_t j) {
    return operand(at.b, product.precision, product.transpose_b ? j * product.k + k : k * product.n + j);
  };
  const bool adds_bias = product.epilogue == Epilogue::kBias || product.epilogue == Epilogue::kBiasRelu;
  const bool relu = product.epilogue == Epilogue::kRelu || product.epilogue == Epilogue::kBiasRelu;
  for (int64_t i = 0; i < product.m; ++i) {
    for (int64_t j = 0; j < product.n; ++j) {
      double sum = adds_bias ? load(at.bias, dtype, j) : 0;
      for (int64_t k = 0; k < product.k; ++k) sum += a(i, k) * b(k, j);
      store(at.y, dtype, i * product.n + j, relu && !(sum > 0) ? 0 : sum);
    }
    if (product.epilogue != Epilogue::kBiasGradient) continue;
    double sum = 0;
    for (int64_t k = 0; k < product.k; ++k) sum += a(i, k);
    store(at.bias, dtype, i, sum);
  }
}

// As a block of the GPU sums.
template <class Index, class Kernel>
void reduce(const Kernel& kernel, int64_t segments, int64_t terms, bool adjacent) {
  using Sum = typename Kernel::Sum;
  const int threads = kReducers / (adjacent ? kAdjacent : 1);
  for (int64_t segment = 0; segment < segments; ++segment) {
    std::array<Sum, kReducers> sums;
    for (int t = 0; t < threads; ++t) {
      Sum& sum = sums[static_cast<size_t>(t)] = Kernel::nothing();
      for (int64_t term = t; term < terms; term += threads) {
        sum = Kernel::merge(sum, kernel.term(static_cast<Index>(segment), static_cast<Index>(term)));
      }
    }
    for (int half = threads / 2; half > 0; half /= 2) {
      for (int t = 0; t < half; ++t) {
        Sum& sum = sums[static_cast<size_t>(t)];
        sum = Kernel::merge(sum, sums[static_cast<size_t>(t + half)]);
      }
    }
    kernel.finish(segment, sums[0]);
  }
}

void run(const Convolution& that, const ConvolutionOperands& at) {
  using Direction = Convolution::Direction;
  const Window& window = that.conv.window;
  const int64_t group_outputs = that.w[0] / that.conv.groups;
  const Shape& result = that.direction == Direction::kForward        ? that.y
                        : that.direction == Direction::kBackwardData ? that.x
                                                                     : that.w;
  const auto place = [&](const Shape& shape, int64_t i) {
    return that.channels_last ? kernels::channels_last(i, shape[1], shape[2] * shape[3]) : i;
  };
  const auto in = [&](const std::byte* data, const Shape& shape, int64_t i) {
    return operand(data, that.precision, place(shape, i));
  };
  std::vector<double> sums(static_cast<size_t>(element_count(result)));
  for (int64_t y = 0; y < element_count(that.y); ++y) {
    const int64_t column = y % that.y[3];
    const int64_t row = y / that.y[3] % that.y[2];
    const int64_t k = y / that.y[3] / that.y[2] % that.y[1];
    const int64_t n = y / that.y[3] / that.y[2] / that.y[1];
    for (int64_t tap = 0; tap < that.w[1] * that.w[2] * that.w[3]; ++tap) {
      const int64_t c = k / group_outputs * that.w[1] + tap / that.w[3] / that.w[2];
      const int64_t r = row * window.stride[0] - window.padding[0] + tap / that.w[3] % that.w[2] * window.dilation[0];
      const int64_t s = column * window.stride[1] - window.padding[1] + tap % that.w[3] * window.dilation[1];
      if (r < 0 || r >= that.x[2] || s < 0 || s >= that.x[3]) continue;
      const int64_t x = ((n * that.x[1] + c) * that.x[2] + r) * that.x[3] + s;
      const int64_t w = k * that.w[1] * that.w[2] * that.w[3] + tap;
      if (that.direction == Direction::kForward) {
        sums[static_cast<size_t>(y)] += in(at.x, that.x, x) * in(at.w, that.w, w);
      } else if (that.direction == Direction::kBackwardData) {
        sums[static_cast<size_t>(x)] += in(at.y, that.y, y) * in(at.w, that.w, w);
      } else {
        sums[static_cast<size_t>(w)] += in(at.y, that.y, y) * in(at.x, that.x, x);
      }
    }
  }
  std::byte* written = that.direction == Direction::kForward        ? at.y
                       : that.direction == Direction::kBackwardData ? at.x
                                                                    : at.w;
  for (size_t i = 0; i < sums.size(); ++i) {
    store(written, dtype_of(that.precision), place(result, static_cast<int64_t>(i)), sums[i]);
  }
}

}  // namespace

// Writes over its workspace, as a library may.
template <class Operands>
class HostCall : public Call<Operands> {
 public:
  HostCall(HostDevice& device, std::function<void(const Operands&)> run) : device_(device), run_(std::move(run)) {}
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
    ++device_.counts_.calls;
  }

 private:
  HostDevice& device_;
  std::function<void(const Operands&)> run_;
  bool tuned_ = false;
};

class HostRecording : public Recording {
 public:
  HostRecording(HostDevice& device, std::vector<Piece> pieces) : device_(device), pieces_(std::move(pieces)) {}
  void run(std::vector<double>& stamps_s) override {
    stamps_s = {now_s()};
    device_.within_piece_ = true;
    for (const Piece& piece : pieces_) {
      piece();
      stamps_s.push_back(now_s());
    }
    device_.within_piece_ = false;
  }

 private:
  HostDevice& device_;
  std::vector<Piece> pieces_;
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
  ++counts_.launches;
  std::visit(
      [&](const auto& call) {
        with_index(call, count, [&]<class Index>() {
          for (int64_t i = 0; i < count; ++i) call.put(i, call.value(static_cast<Index>(i)));
        });
      },
      kernel);
}

void HostDevice::launch(const ReductionKernel& kernel, int64_t segments, int64_t terms) {
  std::visit(
      [&](const auto& call) {
        reduce_in_parts(call, segments, terms, kBlocks, parts_.data(),
                        [this](const auto& each, int64_t of_segments, int64_t of_terms, bool adjacent) {
                          ++counts_.launches;
                          with_index(each, of_segments * of_terms,
                                     [&]<class Index>() { reduce<Index>(each, of_segments, of_terms, adjacent); });
                        });
      },
      kernel);
}

void HostDevice::copy(std::byte* to, const std::byte* from, int64_t bytes) {
  ++counts_.launches;
  std::memcpy(to, from, static_cast<size_t>(bytes));
}

std::unique_ptr<Call<ProductOperands>> HostDevice::prepare(const Product& product) {
  const bool gradient = product.epilogue == Product::Epilogue::kBiasGradient;
  if (gradient && !abilities_.bias_gradients) throw Unimplemented("a product with a bias gradient");
  if (!gradient && product.epilogue != Product::Epilogue::kNone && !abilities_.epilogues) {
    throw Unimplemented("a product with a bias or ReLU");
  }
  return std::make_unique<HostCall<ProductOperands>>(*this,
                                                     [product](const ProductOperands& at) { cuda::run(product, at); });
}

std::unique_ptr<Call<ConvolutionOperands>> HostDevice::prepare(const Convolution& convolution) {
  if (!abilities_.convolutions) throw Unimplemented("convolutions: there is no library for them");
  return std::make_unique<HostCall<ConvolutionOperands>>(
      *this, [convolution](const ConvolutionOperands& at) { cuda::run(convolution, at); });
}

std::unique_ptr<Recording> HostDevice::record(const std::vector<Piece>& pieces, bool) {
  refuse_within_a_piece();
  ++counts_.recordings;
  return std::make_unique<HostRecording>(*this, pieces);
}

}  // namespace triphase::cuda
