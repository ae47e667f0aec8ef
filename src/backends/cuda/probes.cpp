// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/probes.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "core/elements.h"
#include "core/error.h"
#include "core/random.h"

namespace triphase::cuda {
namespace {

using kernels::Quad;

constexpr int64_t kMostRepeats = 1000;  // in a run
constexpr int64_t kLineBytes = 128;     // of the last cache
constexpr int64_t kChasedLoads = 4096;  // in a launch; in a cache each finds another line
constexpr int64_t kQuadBytes = sizeof(Quad);
constexpr const char* kMemory = "memory";
constexpr int64_t kSmallestMemory = 256 << 20;   // of what is to be in no cache
constexpr int64_t kCachesOfMemory = 16;          // as many times what the last cache holds, of which part may stay
constexpr int64_t kCachesJustBeyond = 2;         // of what the last cache no longer holds, but part of it
constexpr int64_t kCachesWalked = 4;             // by one thread, whose way is made on the host
constexpr int64_t kWorkspacesBytes = 512 << 20;  // that libraries take at most, about

using Block = std::shared_ptr<std::byte>;  // the device's memory

Block allocate(const std::shared_ptr<Device>& device, int64_t bytes) {
  return {device->allocate(bytes), [device](std::byte* data) { device->release(data); }};
}

// Normal numbers, never zeros: what is multiplied decides how much power it takes. The same again after a while.
Block numbers(const std::shared_ptr<Device>& device, DType dtype, int64_t count) {
  constexpr int64_t kPeriod = (1 << 20) - 3;
  const int64_t width = size_in_bytes(dtype);
  const int64_t period = std::min(count, kPeriod);
  std::vector<std::byte> some(static_cast<size_t>(period * width));
  for (int64_t i = 0; i < period; ++i) {
    store(some.data(), dtype, i, random_truncated_normal(1, static_cast<uint64_t>(i)));
  }
  Block block = allocate(device, count * width);
  for (int64_t i = 0; i < count; i += period) {
    device->write(block.get() + i * width, some.data(), std::min(period, count - i) * width);
  }
  return block;
}

// Sets a probe up to run `piece`, which does `work`, as often as fills `run_s`. The piece keeps its memory alive.
Probe repeated(Device& device, Probe probe, double run_s, Piece piece) {
  std::vector<double> stamps_s;
  const std::unique_ptr<Recording> once = device.record({piece}, /*captured=*/false);
  once->run(stamps_s);  // loads the kernel, which cannot be done while capturing
  once->run(stamps_s);
  const double once_s = std::max(stamps_s[1] - stamps_s[0], 1e-9);
  const auto repeats = static_cast<int64_t>(std::clamp(std::ceil(run_s / once_s), 1.0, double{kMostRepeats}));
  probe.work *= static_cast<double>(repeats);
  struct Runs {
    Piece piece;
    std::unique_ptr<Recording> all;  // goes before what it launches
    std::vector<double> stamps_s;
  };
  const auto runs = std::make_shared<Runs>(Runs{piece,
                                                device.record({[piece, repeats] {
                                                                for (int64_t i = 0; i < repeats; ++i) piece();
                                                              }},
                                                              /*captured=*/true),
                                                {0, 0}});
  probe.run = [runs] { runs->all->run(runs->stamps_s); };
  probe.took_s = [runs] { return runs->stamps_s.back() - runs->stamps_s.front(); };
  return probe;
}

// A library's call with memory for its operands, tuned.
template <class Operands>
Probe of_call(Device& device, Probe probe, double run_s, std::shared_ptr<Call<Operands>> call, const Operands& operands,
              const Block& workspace, const std::vector<Block>& memory) {
  call->tune(operands, workspace.get());
  return repeated(device, std::move(probe), run_s,
                  [call, operands, workspace, memory] { call->run(operands, workspace.get()); });
}

Probe product(const std::shared_ptr<Device>& device, const Product& product, double run_s) {
  const auto& [m, n, k, transpose_a, transpose_b, epilogue, precision] = product;
  const std::shared_ptr<Call<ProductOperands>> call = device->prepare(product);
  const DType dtype = dtype_of(precision);
  const Block a = numbers(device, dtype, m * k);
  const Block b = numbers(device, dtype, k * n);
  const Block y = numbers(device, dtype, m * n);
  const Probe probe{.kernel = "gemm",
                    .dtype = std::string(to_string(precision)),
                    .level = "",
                    .shape = std::to_string(m) + "x" + std::to_string(k) + "x" + std::to_string(n),
                    .working_set_bytes = (m * k + k * n + m * n) * size_in_bytes(dtype),
                    .work = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k),
                    .latency = false,
                    .run = {},
                    .took_s = {}};
  return of_call<ProductOperands>(*device, probe, run_s, call, {a.get(), b.get(), y.get(), nullptr},
                                  allocate(device, call->workspace_bytes()), {a, b, y});
}

Probe convolution(const std::shared_ptr<Device>& device, const ProbeSizes::Images& images, Precision precision,
                  double run_s) {
  const auto& [n, channels, size] = images;
  const Window window{.kernel = {3, 3}, .stride = {1, 1}, .padding = {1, 1}, .dilation = {1, 1}};
  const Shape image = {n, channels, size, size};
  const Shape weights = {channels, channels, 3, 3};
  const std::shared_ptr<Call<ConvolutionOperands>> call = device->prepare(Convolution{
      Convolution::Direction::kForward, {window, 1}, image, weights, image, precision, precision != Precision::kF32});
  const DType dtype = dtype_of(precision);
  const Block x = numbers(device, dtype, element_count(image));
  const Block w = numbers(device, dtype, element_count(weights));
  const Block y = numbers(device, dtype, element_count(image));
  const auto taps = static_cast<double>(3 * size - 2);  // along a dimension, without those on padding
  const Probe probe{.kernel = "convolution",
                    .dtype = std::string(to_string(precision)),
                    .level = "",
                    .shape = "n" + std::to_string(n) + " " + std::to_string(channels) + "->" +
                             std::to_string(channels) + " " + std::to_string(size) + "x" + std::to_string(size) + " k3",
                    .working_set_bytes = (2 * element_count(image) + element_count(weights)) * size_in_bytes(dtype),
                    .work = 2.0 * static_cast<double>(n * channels * channels) * taps * taps,
                    .latency = false,
                    .run = {},
                    .took_s = {}};
  return of_call<ConvolutionOperands>(*device, probe, run_s, call, {x.get(), w.get(), y.get()},
                                      allocate(device, call->workspace_bytes()), {x, w, y});
}

std::vector<Probe> arithmetic(const std::shared_ptr<Device>& device, const ProbeSizes& sizes, Precision precision) {
  std::vector<Probe> probes;
  const auto add = [&](auto make) {
    try {
      probes.push_back(make());
    } catch (const Unimplemented&) {  // then no step runs it either
    } catch (const OutOfMemory&) {    // too large for this device
    } catch (const DeviceLost&) {
      throw;
    } catch (const VendorError&) {  // listed by the library, and refused
    }
  };
  for (const int64_t side : sizes.products) {
    add([&] {
      const Product square{.m = side, .n = side, .k = side, .transpose_b = true, .precision = precision};
      return product(device, square, sizes.run_s);
    });
  }
  for (const ProbeSizes::Images& images : sizes.images) {
    add([&] { return convolution(device, images, precision, sizes.run_s); });
  }
  return probes;
}

// What the smallest launches take, one after the other within a step.
std::vector<Probe> latencies(const std::shared_ptr<Device>& device, double run_s) {
  Probe call = product(device, {.m = 1, .n = 16, .k = 16}, run_s);
  call.work /= 2.0 * 16 * 16;
  call.kernel = "call";
  call.dtype = "";
  call.latency = true;
  const Block memory = numbers(device, DType::kF32, 4);
  Probe launch{"fork_join", "", "", "a kernel of one thread", 0, 1, true, {}};
  return {std::move(call), repeated(*device, std::move(launch), run_s, [device, memory] {
            device->launch(kernels::Fill{reinterpret_cast<Quad*>(memory.get()), 1, 1}, 1);
          })};
}

// A walk by one thread through all cache lines of `bytes` in an order that nothing guesses: each load waits for the one
// before. `working_set_bytes` is the level's.
Probe chase(const std::shared_ptr<Device>& device, const std::string& level, int64_t bytes, int64_t working_set_bytes,
            double run_s) {
  constexpr int64_t kLine = kLineBytes / static_cast<int64_t>(sizeof(uint32_t));
  const int64_t lines = bytes / kLineBytes;
  std::vector<uint32_t> order(static_cast<size_t>(lines));
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = order.size() - 1; i > 0; --i) std::swap(order[i], order[random_bits(1, i) % (i + 1)]);
  std::vector<uint32_t> next(static_cast<size_t>(lines * kLine));
  for (size_t i = 0; i < order.size(); ++i) {
    next[order[i] * kLine] = static_cast<uint32_t>(order[(i + 1) % order.size()] * kLine);
  }
  const auto size = static_cast<int64_t>(next.size() * sizeof(uint32_t));
  const Block memory = allocate(device, size);
  device->write(memory.get(), next.data(), size);
  const Block place = allocate(device, sizeof(uint32_t));  // zero: where the walk begins, and goes on from run to run
  return repeated(*device, {"load", "", level, "", working_set_bytes, static_cast<double>(kChasedLoads), true, {}},
                  run_s, [device, memory, place] {
                    device->launch(kernels::Chase{reinterpret_cast<const uint32_t*>(memory.get()),
                                                  reinterpret_cast<uint32_t*>(place.get()), kChasedLoads},
                                   1);
                  });
}

// A launch reads all quads so many times over.
Probe read(const std::shared_ptr<Device>& device, const std::string& level, const Block& data, int64_t quads,
           int64_t rounds, double run_s) {
  const int64_t bytes = quads * kQuadBytes;
  const Block sum = allocate(device, sizeof(float));
  return repeated(*device, {"read", "", level, "", bytes, static_cast<double>(bytes * rounds), false, {}}, run_s,
                  [device, data, sum, quads, rounds] {
                    device->launch(kernels::SumOfQuads{reinterpret_cast<const Quad*>(data.get()),
                                                       reinterpret_cast<float*>(sum.get()), quads},
                                   1, quads * rounds);
                  });
}

int64_t quads_in(int64_t bytes) { return bytes / (2 * kQuadBytes) * 2; }

// All ways to move memory, in a working set of so many bytes.
std::vector<Probe> movement(const std::shared_ptr<Device>& device, const std::string& level, int64_t bytes,
                            const ProbeSizes& sizes) {
  const int64_t count = quads_in(bytes);
  const int64_t half = count / 2;
  // In memory once: a second round may catch the first up, and find in the cache what that brought.
  const int64_t rounds = level == kMemory ? 1 : std::max<int64_t>(1, sizes.launch_bytes / bytes);
  const Block data = numbers(device, DType::kF32, 4 * count);
  Quad* const x = reinterpret_cast<Quad*>(data.get());
  Quad* const y = x + half;
  const auto probe = [&](const char* kernel, const char* shape, int64_t moved, auto launch) {
    return repeated(*device,
                    {kernel, "", level, shape, count * kQuadBytes, static_cast<double>(moved * kQuadBytes), false, {}},
                    sizes.run_s, [device, data, launch] { launch(*device); });
  };
  std::vector<Probe> probes = {
      read(device, level, data, count, rounds, sizes.run_s),
      probe("write", "", count * rounds,
            [=](Device& on) {
              on.launch(kernels::Fill{x, 1, count}, count * rounds);
            }),
      probe("copy", "kernel", 2 * half * rounds,
            [=](Device& on) {
              on.launch(kernels::CopyQuads{x, y, half}, half * rounds);
            }),
      probe("update", "", 3 * half * rounds,
            [=](Device& on) {
              on.launch(kernels::Subtract{x, y, 1e-6f, half}, half * rounds);
            }),
  };
  if (level == kMemory) {
    probes.push_back(probe("copy", "device copy", 2 * half, [=](Device& on) {
      on.copy(reinterpret_cast<std::byte*>(y), reinterpret_cast<const std::byte*>(x), half * kQuadBytes);
    }));
    const int64_t walked_bytes = std::min(bytes, std::max(kCachesWalked * device->last_cache_bytes(), kSmallestMemory));
    probes.push_back(chase(device, level, walked_bytes, count * kQuadBytes, sizes.run_s));
  } else {
    const int64_t walked_bytes = std::min(bytes, kChasedLoads * kLineBytes);
    probes.push_back(chase(device, level, walked_bytes, count * kQuadBytes, sizes.run_s));
  }
  return probes;
}

// Far beyond the last cache, where the device has as much.
int64_t set_in_memory(const Device& device) {
  return std::min(std::max(kCachesOfMemory * device.last_cache_bytes(), kSmallestMemory), device.free_bytes() / 4);
}

}  // namespace

std::vector<ProbeGroup> probes(const std::shared_ptr<Device>& device, const ProbeSizes& sizes) {
  std::vector<ProbeGroup> groups = {{64 << 20, [=] { return latencies(device, sizes.run_s); }}};
  int64_t largest = 0;
  for (const int64_t side : sizes.products) largest = std::max(largest, side * side);
  for (const auto& [precision, name] : kPrecisions) {
    groups.push_back({6 * largest * size_in_bytes(dtype_of(precision)) + kWorkspacesBytes,
                      [=, precision = precision] { return arithmetic(device, sizes, precision); }});
  }
  const auto add = [&](const char* level, int64_t bytes) {
    groups.push_back({3 * bytes, [=] { return movement(device, level, bytes, sizes); }});
  };
  const int64_t just_beyond = kCachesJustBeyond * device->last_cache_bytes();
  const int64_t far_beyond = set_in_memory(*device);
  add("L2", device->last_cache_bytes() / 4);
  if (just_beyond < far_beyond) add(kMemory, just_beyond);
  add(kMemory, far_beyond);
  return groups;
}

double memory_bytes_per_s(const std::shared_ptr<Device>& device) {
  constexpr int kRuns = 10;
  constexpr double kRun_s = 1e-3;
  const int64_t count = quads_in(set_in_memory(*device));
  const Probe probe = read(device, kMemory, allocate(device, count * kQuadBytes), count, 1, kRun_s);
  double least_s = std::numeric_limits<double>::infinity();
  for (int run = 0; run < kRuns; ++run) {
    probe.run();
    least_s = std::min(least_s, probe.took_s());
  }
  return probe.work / least_s;
}

}  // namespace triphase::cuda
