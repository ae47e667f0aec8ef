// SPDX-License-Identifier: Apache-2.0
#include "fake_gpu/kernels.h"

#include <cxxabi.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <type_traits>
#include <typeinfo>
#include <variant>
#include <vector>

#include "backends/cuda/kernels.h"
#include "fake_gpu/runtime.h"

namespace fake_gpu {
namespace {

using namespace triphase::cuda;

// Named as the kernels are, with the same template arguments.
template <class Index, class Kernel>
struct compute {};
template <int kTogether, class Index, class Kernel>
struct reduce {};

std::string demangled(const char* mangled) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> text(abi::__cxa_demangle(mangled, nullptr, nullptr, &status),
                                                         &std::free);
  return text ? text.get() : mangled;
}

// "void a::(anonymous namespace)::compute<int, X<float> >(X<float>, int)": "compute<int, X<float> >"
std::string key_of(const std::string& name) {
  for (const char* kind : {"compute<", "reduce<", "read_zeros"}) {
    const size_t begin = name.find(kind);
    if (begin == std::string::npos) continue;
    size_t end = begin;
    for (int depth = 0; end < name.size(); ++end) {
      if (name[end] == '(' && depth == 0) break;
      if (name[end] == '<') ++depth;
      if (name[end] == '>' && --depth == 0) {
        ++end;
        break;
      }
    }
    return name.substr(begin, end - begin);
  }
  return name;
}

template <class T>
T argument(void** arguments, int which) {
  return *static_cast<const T*>(arguments[which]);
}

using Kernels = std::map<std::string, Bind>;

constexpr unsigned kThreads = 256;  // of a block, which the kernels take for granted
void expect_threads(dim3 block) {
  if (block.x != kThreads) fake_gpu_violation("a kernel with " + std::to_string(block.x) + " threads a block");
}

template <class Index, class Kernel>
void add_compute(Kernels& kernels) {
  kernels[key_of(demangled(typeid(compute<Index, Kernel>).name()))] = [](dim3 grid, dim3 block, void** arguments) {
    expect_threads(block);
    return [kernel = argument<Kernel>(arguments, 0), count = argument<Index>(arguments, 1),
            threads = static_cast<Index>(grid.x) * static_cast<Index>(kThreads)] {
      for (Index thread = threads; thread-- > 0;) compute_elements(kernel, thread, threads, count);
    };
  };
}

template <int kTogether, class Index, class Kernel>
void add_reduce(Kernels& kernels) {
  kernels[key_of(demangled(typeid(reduce<kTogether, Index, Kernel>).name()))] = [](dim3 grid, dim3 block,
                                                                                   void** arguments) {
    static_assert(kReducers == kThreads);
    expect_threads(block);
    return [kernel = argument<Kernel>(arguments, 0), segments = argument<Index>(arguments, 1),
            terms = argument<Index>(arguments, 2), blocks = static_cast<Index>(grid.x)] {
      std::vector<typename Kernel::Sum> sums(kReducers);
      for (Index number = blocks; number-- > 0;) {
        std::memset(static_cast<void*>(sums.data()), 0xff, sums.size() * sizeof sums[0]);
        const ReducingBlock<kTogether, Index, Kernel> one{kernel, segments, terms, number, sums.data()};
        for (int thread = kReducers; thread-- > 0;) one.sum(thread);
        for (int half = one.kOfSegment / 2; half > 0; half /= 2) {
          for (int thread = kReducers; thread-- > 0;) one.merge(thread, half);
        }
        for (int thread = kReducers; thread-- > 0;) one.finish(thread);
      }
    };
  };
}

template <class Kernel>
void add_reductions(Kernels& kernels) {
  add_reduce<1, int32_t, Kernel>(kernels);
  add_reduce<1, int64_t, Kernel>(kernels);
  add_reduce<kAdjacent, int32_t, Kernel>(kernels);
  add_reduce<kAdjacent, int64_t, Kernel>(kernels);
}

template <class... Kernel>
void add_all_compute(Kernels& kernels, std::type_identity<std::variant<Kernel...>>) {
  (add_compute<int32_t, Kernel>(kernels), ...);
  (add_compute<int64_t, Kernel>(kernels), ...);
}
template <class... Kernel>
void add_all_reduce(Kernels& kernels, std::type_identity<std::variant<Kernel...>>) {
  (add_reductions<Kernel>(kernels), ...);
  (add_reductions<triphase::cuda::kernels::InParts<Kernel>>(kernels), ...);
  (add_reductions<triphase::cuda::kernels::OfParts<Kernel>>(kernels), ...);
}

void bind_read_zeros(Kernels& kernels) {
  kernels["read_zeros"] = [](dim3, dim3 block, void** arguments) {
    expect_threads(block);
    return [data = argument<const float4*>(arguments, 0), count = argument<int64_t>(arguments, 1)] {
      for (int64_t i = 0; i < count; ++i) {
        if (data[i].x != 0 || data[i].y != 0 || data[i].z != 0 || data[i].w != 0) {
          return fake_gpu_violation("read_zeros reads what is not zero");
        }
      }
    };
  };
}

}  // namespace

Bind kernel_named(const char* mangled) {
  static const Kernels all = [] {
    Kernels kernels;
    add_all_compute(kernels, std::type_identity<ElementKernel>());
    add_all_reduce(kernels, std::type_identity<ReductionKernel>());
    bind_read_zeros(kernels);
    return kernels;
  }();
  const auto found = all.find(key_of(demangled(mangled)));
  return found == all.end() ? Bind() : found->second;
}

}  // namespace fake_gpu
