// SPDX-License-Identifier: Apache-2.0
#include "backends/onednn/probes.h"

#include <omp.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <new>
#include <numeric>
#include <set>
#include <string>
#include <unordered_map>

#include "backends/evict.h"
#include "backends/onednn/bandwidth.h"
#include "backends/onednn/kernels.h"
#include "core/clock.h"
#include "core/random.h"

namespace triphase {
namespace {

using dnnl::memory;

constexpr int64_t kFloat = sizeof(float);
constexpr int64_t kBytesInARun = 1 << 20;   // moved by a thread within one parallel region, at least
constexpr int64_t kGaugeParts = 8;          // of memory, one a reading: less time, and still none in a cache
constexpr int64_t kMostChased = 1LL << 30;  // setting a chase up takes a while

// Page-aligned floats, first touched by the thread that will use them.
std::shared_ptr<float> floats(int64_t count) {
  auto* data =
      static_cast<float*>(std::aligned_alloc(4096, static_cast<size_t>((count * kFloat + 4095) / 4096 * 4096)));
  if (data == nullptr) throw std::bad_alloc();
  write_floats(data, count, 1);
  return {data, [](float* p) { std::free(p); }};
}

std::string name_of(memory::data_type type) { return type == memory::data_type::bf16 ? "bf16" : "f32"; }

// A primitive with memory for all its arguments.
Probe probe_of(std::string kernel, memory::data_type type, std::string shape, double flop, dnnl::primitive primitive,
               const std::vector<std::pair<int, memory::desc>>& arguments, const dnnl::engine& engine) {
  std::unordered_map<int, memory> args;
  int64_t bytes = 0;
  for (const auto& [index, desc] : arguments) {
    args.emplace(index, filled(desc, engine));
    bytes += static_cast<int64_t>(desc.get_size());
  }
  dnnl::stream stream(engine);
  return {std::move(kernel), name_of(type), "", std::move(shape), bytes, flop, false, [=]() mutable {
            primitive.execute(stream, args);
            stream.wait();
          }};
}

struct Product {
  int64_t m, k, n;
  std::string shape() const { return std::to_string(m) + "x" + std::to_string(k) + "x" + std::to_string(n); }
  double flop() const { return 2.0 * static_cast<double>(m) * static_cast<double>(k) * static_cast<double>(n); }
};

Probe product(const Product& p, memory::data_type type, const std::string& kernel) {
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  const auto any = memory::format_tag::any;
  const dnnl::matmul::primitive_desc pd(engine, {{p.m, p.k}, type, any}, {{p.k, p.n}, type, any},
                                        {{p.m, p.n}, memory::data_type::f32, any});
  return probe_of(kernel, type, p.shape(), p.flop(), dnnl::matmul(pd),
                  {{DNNL_ARG_SRC, pd.src_desc()}, {DNNL_ARG_WEIGHTS, pd.weights_desc()}, {DNNL_ARG_DST, pd.dst_desc()}},
                  engine);
}

struct Image {
  int64_t n, c, k, size, kernel;
  std::string shape() const {
    return "n" + std::to_string(n) + " " + std::to_string(c) + "->" + std::to_string(k) + " " + std::to_string(size) +
           "x" + std::to_string(size) + " k" + std::to_string(kernel);
  }
};

Probe convolution(const Image& i, memory::data_type type) {
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  const auto any = memory::format_tag::any;
  const int64_t pad = i.kernel / 2;
  const dnnl::convolution_forward::primitive_desc pd(
      engine, dnnl::prop_kind::forward_training, dnnl::algorithm::convolution_direct,
      {{i.n, i.c, i.size, i.size}, type, any}, {{i.k, i.c, i.kernel, i.kernel}, type, any},
      {{i.n, i.k, i.size, i.size}, memory::data_type::f32, any}, {1, 1}, {pad, pad}, {pad, pad});
  // What oneDNN counts: taps on padding do no work.
  const double taps = static_cast<double>(i.kernel * i.size - pad * (pad + 1));
  const double flop = 2.0 * static_cast<double>(i.n * i.c * i.k) * taps * taps;
  return probe_of("convolution", type, i.shape(), flop, dnnl::convolution_forward(pd),
                  {{DNNL_ARG_SRC, pd.src_desc()}, {DNNL_ARG_WEIGHTS, pd.weights_desc()}, {DNNL_ARG_DST, pd.dst_desc()}},
                  engine);
}

// What this processor has no instructions for would measure an emulation.
bool has_fast_bf16() {
  const auto isa = dnnl::get_effective_cpu_isa();
  return isa == dnnl::cpu_isa::avx512_core_bf16 || isa == dnnl::cpu_isa::avx512_core_fp16 ||
         isa == dnnl::cpu_isa::avx512_core_amx || isa == dnnl::cpu_isa::avx512_core_amx_fp16;
}

std::vector<Probe> arithmetic(memory::data_type type) {
  std::vector<Probe> probes;
  for (const Product& p : {Product{768, 768, 768}, {1536, 1536, 1536}, {1024, 3072, 1024}}) {
    probes.push_back(product(p, type, "gemm"));
  }
  for (const Image& i : {Image{4, 64, 64, 56, 3}, {4, 128, 128, 28, 3}, {4, 256, 256, 14, 3}, {4, 32, 64, 55, 5}}) {
    probes.push_back(convolution(i, type));
  }
  return probes;
}

std::vector<Probe> latency() {
  Probe call = product({1, 16, 16}, memory::data_type::f32, "call");
  call.work = 1;
  call.latency = true;
  return {{"fork_join", "", "", "an empty parallel region", 0, 1, true, [] { empty_region(); }}, std::move(call)};
}

// A walk through all cache lines of `bytes` in an order that no prefetcher guesses: each load waits for the one before.
Probe chase(const std::string& level, int64_t bytes) {
  constexpr int64_t kLine = 64 / sizeof(uint32_t);
  const int64_t lines = bytes / 64;
  const auto next = std::make_shared<std::vector<uint32_t>>(static_cast<size_t>(lines * kLine));
  std::vector<uint32_t> order(static_cast<size_t>(lines));
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = order.size() - 1; i > 0; --i) std::swap(order[i], order[random_bits(1, i) % (i + 1)]);
  for (size_t i = 0; i < order.size(); ++i) {
    (*next)[order[i] * kLine] = static_cast<uint32_t>(order[(i + 1) % order.size()] * kLine);
  }
  // Of a small set all of it, so that a run finds what the run before brought.
  const int64_t loads = std::clamp<int64_t>(lines, 4096, 65536);
  return {"load", "", level, "", bytes, static_cast<double>(loads), true, [next, loads, at = uint32_t{0}]() mutable {
            for (int64_t i = 0; i < loads; ++i) at = (*next)[at];
            const volatile uint32_t kept = at;
            static_cast<void>(kept);
          }};
}

// An update of the next of `parts` parts of a working set, in turns.
Probe update_probe(int64_t bytes, int64_t parts) {
  const int64_t count = bytes / parts / kFloat / 32 * 16;  // weights of a part
  const std::shared_ptr<float> data = floats(2 * count * parts);
  return {"update",
          "",
          "",
          "",
          2 * count * parts * kFloat,
          static_cast<double>(3 * count * kFloat),
          false,
          [data, count, parts, part = int64_t{0}]() mutable {
            float* const w = data.get() + part * 2 * count;
            update_floats(w, w + count, count, 1);
            part = (part + 1) % parts;
          }};
}

// All five ways to move memory, in a working set of so many bytes.
std::vector<Probe> movement(const std::string& level, int64_t bytes) {
  const int64_t count = bytes / kFloat / 32 * 32;
  const int64_t half = count / 2;
  const std::shared_ptr<float> data = floats(count);
  float* const x = data.get();
  float* const y = x + half;
  const int64_t repeats = std::max<int64_t>(1, kBytesInARun * omp_get_max_threads() / bytes);
  const auto probe = [&](const char* kernel, int64_t moved, auto run) {
    return Probe{kernel,         "",
                 level,          "",
                 count * kFloat, static_cast<double>(moved * kFloat * repeats),
                 false,          [data, run] { run(); }};
  };
  std::vector<Probe> probes = {
      probe("read", count, [=] { read_floats(x, count, repeats); }),
      probe("write", count, [=] { write_floats(x, count, repeats); }),
      probe("copy", 2 * half, [=] { copy_floats(x, y, half, repeats); }),
      probe("update", 3 * half, [=] { update_floats(x, y, half, repeats); }),
  };
  if (stream_floats(x, 16, 0)) {
    probes.push_back(probe("stream", count, [=] { stream_floats(x, count, repeats); }));
  }
  // By one thread, within its share.
  probes.push_back(chase(level, std::min<int64_t>(count * kFloat / omp_get_max_threads(), kMostChased)));
  probes.back().working_set_bytes = count * kFloat;
  return probes;
}

// Of one cache of a level, and which processors share each of its kind.
struct CacheKind {
  int64_t bytes = 0;
  std::set<std::string> shared_by;
};

// By level, of the processors that the process may use, as Linux tells it of each. The C library takes, on some, the
// L3s of a whole socket for one.
std::map<int, CacheKind> caches() {
  std::map<int, CacheKind> found = {{1, {32 << 10, {}}}, {2, {1 << 20, {}}}, {3, {32 << 20, {}}}};
  cpu_set_t usable;
  CPU_ZERO(&usable);
  if (sched_getaffinity(0, sizeof usable, &usable) != 0) return found;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &usable)) continue;
    for (int index = 0;; ++index) {
      const std::string about =
          "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/cache/index" + std::to_string(index) + "/";
      const auto read = [&](const char* name, auto& value) { return bool(std::ifstream(about + name) >> value); };
      int level = 0;
      std::string type;
      if (!read("level", level) || !read("type", type)) break;
      int64_t kibibytes = 0;  // followed by K
      std::string sharing;
      if (type == "Instruction" || !read("size", kibibytes) || kibibytes <= 0) continue;
      if (read("shared_cpu_list", sharing)) found[level].shared_by.insert(sharing);
      found[level].bytes = kibibytes << 10;
    }
  }
  return found;
}

// Working sets within each level, and well beyond the one before: half of a core's own caches; of the shared ones four
// times what the cores' own hold, and half of them, since the far end is slower and others use them too; of memory four
// times what all caches hold, where they may still help, and much more, where the machine has as much.
struct WorkingSets {
  int64_t l1, l2, l3, far_l3, memory, far_memory;
};

WorkingSets working_sets(int threads) {
  const std::map<int, CacheKind> known = caches();
  const int64_t l1 = threads * known.at(1).bytes;
  const int64_t l2 = threads * known.at(2).bytes;
  const CacheKind& shared = known.at(3);
  const int64_t l3 = std::clamp<int64_t>(std::ssize(shared.shared_by), 1, threads) * shared.bytes;
  const int64_t installed = sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
  return {l1 / 2,
          l2 / 2,
          std::min(l3 / 2, 4 * l2),
          l3 / 2,
          std::min(4 * (l3 + l2), installed / 8),
          std::min(32 * (l3 + l2), installed / 8)};
}

void use_threads(int threads) {
  omp_set_num_threads(threads);
  flush_denormals();
}

Probe named(Probe probe, const char* kernel) {
  probe.kernel = kernel;
  return probe;
}

}  // namespace

memory filled(const memory::desc& desc, const dnnl::engine& engine) {
  memory result(desc, engine);
  auto* data = static_cast<float*>(result.get_data_handle());
  // Values of about 1 in either dtype, never zeros: 0x3f8?3f8? is two bf16 or one f32 near 1.
  const auto words = static_cast<int64_t>(desc.get_size() / sizeof(uint32_t));
  auto* bits = reinterpret_cast<uint32_t*>(data);
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < words; ++i) bits[i] = 0x3f803f80U + static_cast<uint32_t>(i * 37 % 61) * 0x00010001U;
  return result;
}

std::vector<ProbeGroup> onednn_probes(int threads) {
  use_threads(threads);
  const WorkingSets sets = working_sets(threads);
  std::vector<ProbeGroup> groups = {{1 << 20, latency}};
  // Apart, because matrix instructions lower the clock for a while.
  groups.push_back({128 << 20, [] { return arithmetic(memory::data_type::f32); }});
  if (has_fast_bf16()) groups.push_back({128 << 20, [] { return arithmetic(memory::data_type::bf16); }});
  const auto add = [&](const char* level, int64_t bytes) {
    groups.push_back({2 * bytes, [=] { return movement(level, bytes); }});
  };
  add("L1", sets.l1);
  add("L2", sets.l2);
  add("L3", sets.l3);
  if (sets.far_l3 >= 2 * sets.l3) add("L3", sets.far_l3);
  add("memory", sets.memory);
  if (sets.far_memory >= 2 * sets.memory) add("memory", sets.far_memory);
  return groups;
}

ProbeGroup onednn_gauge(int threads) {
  const WorkingSets sets = working_sets(threads);
  return {sets.l3 + sets.memory, [=] {
            use_threads(threads);
            return std::vector<Probe>{
                named(product({768, 768, 768}, memory::data_type::f32, "gemm"), "gauge_arithmetic"),
                named(update_probe(sets.l3, 1), "gauge_cache"),
                named(update_probe(sets.memory, kGaugeParts), "gauge_memory")};
          }};
}

// Many short runs, so that one at least is undisturbed by others; on large pages, as the plans' own memory.
std::optional<double> onednn_memory_bytes_per_s(int threads) {
  constexpr int64_t kHugePage = 2 << 20;
  constexpr int64_t kBytes = 4 * kHugePage;
  constexpr int kRuns = 40;
  if (!can_evict()) return {};
  use_threads(threads);
  const std::unique_ptr<float, void (*)(void*)> data(static_cast<float*>(std::aligned_alloc(kHugePage, kBytes)),
                                                     std::free);
  if (!data) throw std::bad_alloc();
  madvise(data.get(), kBytes, MADV_HUGEPAGE);
  write_floats(data.get(), kBytes / kFloat, 1);
  double least_s = 1e300;
  for (int run = 0; run < kRuns; ++run) {
    evict_by_threads(data.get(), kBytes);
    const double begin_s = now_s();
    read_floats(data.get(), kBytes / kFloat, 1);
    least_s = std::min(least_s, now_s() - begin_s);
  }
  return static_cast<double>(kBytes) / least_s;
}

}  // namespace triphase
