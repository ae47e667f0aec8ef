// SPDX-License-Identifier: Apache-2.0
// What a plan needs of a GPU: memory, own kernels, products, convolutions, and a recorded step that stamps its time.
// The plan knows nothing else of CUDA, so that it also runs on the host that stands in for a GPU in tests.
//
// All that is launched runs in the order of launching. Addresses are the device's; only read() and write() cross over.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backends/backend.h"
#include "backends/cuda/kernels.h"
#include "core/error.h"
#include "core/precision.h"
#include "ops/ops.h"

namespace triphase::cuda {

// The device answers with the same error from now on, until the process ends.
class DeviceLost : public VendorError {
 public:
  using VendorError::VendorError;
};

// Calls f. What it throws is kept in `failure`, since another way may serve; but a lost device is lost to all ways.
template <class F>
bool succeeds(F f, std::exception_ptr& failure) {
  try {
    f();
    return true;
  } catch (const DeviceLost&) {
    throw;
  } catch (const OutOfMemory&) {
    failure = std::current_exception();
  } catch (const Unimplemented&) {
    failure = std::current_exception();
  } catch (const VendorError&) {
    failure = std::current_exception();
  }
  return false;
}

// What a library's call does beside its sum. A bias is by column of a product, by channel of a convolution.
enum class Epilogue {
  kNone,
  kRelu,
  kBias,
  kBiasRelu,      // y = relu(y + bias)
  kBiasGradient,  // of a product: bias[m] = sum over k of op(a)[m, k]: with a = dyᵀ, the gradient of the bias
};

constexpr bool adds_bias(Epilogue epilogue) { return epilogue == Epilogue::kBias || epilogue == Epilogue::kBiasRelu; }
constexpr bool does_relu(Epilogue epilogue) { return epilogue == Epilogue::kRelu || epilogue == Epilogue::kBiasRelu; }

// y = op(a) op(b), then as the epilogue says; all row-major, as MatMul's operands.
// a: [m, k], or [k, m] transposed   b: [k, n], or [n, k] transposed   y: [m, n]
struct Product {
  int64_t m = 0, n = 0, k = 0;
  bool transpose_a = false;
  bool transpose_b = false;
  Epilogue epilogue = Epilogue::kNone;
  Precision precision = Precision::kF32;  // what all operands are kept in; sums are in f32
};

// One of the three convolutions of a layer; x, w and y are its forward shapes, all as NCHW, whichever is computed.
struct Convolution {
  enum class Direction { kForward, kBackwardData, kBackwardWeights };
  Direction direction = Direction::kForward;
  Conv2d conv;
  Shape x, w, y;
  Precision precision = Precision::kF32;
  bool channels_last = false;           // all three lie as NHWC, weights as [K, R, S, C]
  Epilogue epilogue = Epilogue::kNone;  // of the forward one
};

// Where a call finds its operands. A product's are a, b, y and bias; a convolution's x, w, y, whichever is written, and
// bias.
struct ProductOperands {
  const std::byte* a = nullptr;
  const std::byte* b = nullptr;
  std::byte* y = nullptr;
  std::byte* bias = nullptr;
};
struct ConvolutionOperands {
  std::byte* x = nullptr;
  std::byte* w = nullptr;
  std::byte* y = nullptr;
  std::byte* bias = nullptr;
};

// A library's call, made ready before there is memory for its operands.
template <class Operands>
class Call {
 public:
  virtual ~Call() = default;
  // What runs, by the library's name for it; after tune() what it chose.
  virtual std::string implementation() const = 0;
  virtual int64_t workspace_bytes() const = 0;
  // Times what the library offers and keeps the fastest. Writes the results.
  virtual void tune(const Operands& operands, std::byte* workspace) = 0;
  virtual void run(const Operands& operands, std::byte* workspace) = 0;
};

// Pieces of work that were recorded once, to be run as a whole again and again.
class Recording {
 public:
  virtual ~Recording() = default;
  // Runs all pieces, without waiting for them.
  virtual void start() = 0;
  // Runs all pieces and waits. Writes a stamp before the first and one after each, in seconds by the device's clock.
  virtual void run(std::vector<double>& stamps_s) = 0;
};

using Piece = std::function<void()>;  // launches; must neither allocate nor wait

class Device {
 public:
  virtual ~Device() = default;

  // All bytes zero. Throws OutOfMemory.
  virtual std::byte* allocate(int64_t bytes) = 0;
  virtual void release(std::byte* data) = 0;
  virtual int64_t free_bytes() const = 0;
  // What the last cache before memory holds.
  virtual int64_t last_cache_bytes() const = 0;
  // Both have ended when they return, and read() waits for all that was launched before.
  virtual void write(std::byte* to, const void* from, int64_t bytes) = 0;
  virtual void read(void* to, const std::byte* from, int64_t bytes) = 0;

  // Puts every element i < count.
  virtual void launch(const ElementKernel& kernel, int64_t count) = 0;
  // Sums term(segment, t) of all t < terms, and finishes, for every segment < segments.
  virtual void launch(const ReductionKernel& kernel, int64_t segments, int64_t terms) = 0;
  // Runs every stage, by all threads of a block.
  virtual void launch(const BlockKernel& kernel) = 0;

  // From one place to another, which do not overlap, of the device's memory.
  virtual void copy(std::byte* to, const std::byte* from, int64_t bytes) = 0;

  // Throw Unimplemented where the device or its libraries have no way.
  virtual std::unique_ptr<Call<ProductOperands>> prepare(const Product& product) = 0;
  virtual std::unique_ptr<Call<ConvolutionOperands>> prepare(const Convolution& convolution) = 0;

  // `captured`: one graph of everything, so that launching costs nothing between the pieces; otherwise launched one by
  // one as it runs.
  virtual std::unique_ptr<Recording> record(const std::vector<Piece>& pieces, bool captured) = 0;

  // The number of the piece that takes the least time, recorded. Those that fail are passed over, but not all of them.
  virtual size_t fastest(const std::vector<Piece>& pieces) = 0;

  // Calls `launches`; a profiler finds what that launches under this name.
  virtual void run_named(const std::string& /*name*/, const Piece& launches) { launches(); }

  // While it runs `work`, some times in a row.
  virtual std::optional<DeviceState> state(Recording& /*work*/) { return {}; }

  // Pushes everything out of the last cache before memory. False where that cannot be done.
  virtual bool evict() = 0;
};

}  // namespace triphase::cuda
