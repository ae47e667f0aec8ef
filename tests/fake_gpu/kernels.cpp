// SPDX-License-Identifier: Apache-2.0
#include "fake_gpu/kernels.h"

#include <cxxabi.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <stdexcept>
#include <string_view>
#include <type_traits>
#include <typeinfo>
#include <variant>
#include <vector>

#include "backends/cuda/kernels.h"
#include "fake_gpu/ptx.h"
#include "fake_gpu/runtime.h"

namespace fake_gpu {
namespace {

using namespace triphase::cuda;

// Named as the kernels are, with the same template arguments.
template <class Index, class Kernel>
struct compute {};
template <int kTogether, class Index, class Kernel>
struct reduce {};
template <class Kernel>
struct in_stages {};

std::string demangled(const char* mangled) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> text(abi::__cxa_demangle(mangled, nullptr, nullptr, &status),
                                                         &std::free);
  return text ? text.get() : mangled;
}

// "void a::(anonymous namespace)::compute<int, X<float> >(X<float>, int)": "compute<int, X<float> >"
std::string key_of(const std::string& name) {
  for (const char* kind : {"compute<", "reduce<", "in_stages<", "read_zeros"}) {
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

template <class Kernel, class Adjacent>
void add_reductions(Kernels& kernels) {
  const auto add = [&]<int kTogether>() {
    add_reduce<kTogether, int32_t, Kernel>(kernels);
    add_reduce<kTogether, int64_t, Kernel>(kernels);
  };
  if constexpr (std::is_same_v<Adjacent, bool>) {
    with_together(true, add);
    with_together(false, add);
  } else {
    with_together(Adjacent(), add);
  }
}
template <class Kernel>
using AdjacencyOf = decltype(std::declval<Kernel>().adjacent());

template <class... Kernel>
void add_all_compute(Kernels& kernels, std::type_identity<std::variant<Kernel...>>) {
  (add_compute<int32_t, Kernel>(kernels), ...);
  (add_compute<int64_t, Kernel>(kernels), ...);
}
template <class... Kernel>
void add_all_reduce(Kernels& kernels, std::type_identity<std::variant<Kernel...>>) {
  (add_reductions<Kernel, AdjacencyOf<Kernel>>(kernels), ...);
  (add_reductions<triphase::cuda::kernels::InParts<Kernel>, AdjacencyOf<Kernel>>(kernels), ...);
  (add_reductions<triphase::cuda::kernels::OfParts<Kernel>, std::true_type>(kernels), ...);
}

template <class... Kernel>
void add_all_in_stages(Kernels& kernels, std::type_identity<std::variant<Kernel...>>) {
  const auto add = [&]<class One>() {
    kernels[key_of(demangled(typeid(in_stages<One>).name()))] = [](dim3 grid, dim3 block, void** arguments) {
      static_assert(One::kThreads == kThreads);
      expect_threads(block);
      if (grid.x != 1) fake_gpu_violation("more than a block of a kernel that is run by one");
      return [kernel = argument<One>(arguments, 0)] {
        typename One::Shared shared;
        std::memset(static_cast<void*>(&shared), 0xff, sizeof shared);
        for (int stage = 0; stage < kernel.stages(); ++stage) {
          for (int thread = One::kThreads; thread-- > 0;) kernel.run(stage, thread, shared);
        }
      };
    };
  };
  (add.template operator()<Kernel>(), ...);
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

Kernels compiled_kernels(const char* path) {
  Kernels kernels;
  try {
    for (auto& [name, bind] : kernels_of_ptx(path)) kernels[key_of(demangled(name.c_str()))] = std::move(bind);
  } catch (const std::runtime_error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    std::_Exit(2);
  }
  for (auto& [name, bind] : kernels) {
    bind = [bind = std::move(bind)](dim3 grid, dim3 block, void** arguments) {
      expect_threads(block);
      return bind(grid, block, arguments);
    };
  }
  return kernels;
}

// In the place of each that counts in 32 bits the one that counts in 64.
Kernels widened(const Kernels& kernels) {
  Kernels wide;
  for (const auto& [name, bind] : kernels) {
    constexpr std::string_view kNarrow = "int, ";
    constexpr std::string_view kWide = "long, ";
    const size_t at = name.find(kWide);
    if (at == std::string::npos) {
      wide.emplace(name, bind);
      continue;
    }
    const int counts = name.starts_with("compute<") ? 1 : 2;  // behind the kernel itself
    wide[std::string(name).replace(at, kWide.size(), kNarrow)] = [bind = bind, counts](dim3 grid, dim3 block,
                                                                                       void** arguments) {
      std::array<int64_t, 2> values{};
      std::array<void*, 3> pointers = {arguments[0], &values[0], &values[1]};
      for (int i = 0; i < counts; ++i) values[static_cast<size_t>(i)] = argument<int32_t>(arguments, i + 1);
      return bind(grid, block, pointers.data());
    };
  }
  return wide;
}

}  // namespace

Bind kernel_named(const char* mangled) {
  static const Kernels all = [] {
    if (const char* path = std::getenv("FAKE_GPU_PTX")) return compiled_kernels(path);
    if (const char* path = std::getenv("FAKE_GPU_WIDE_PTX")) return widened(compiled_kernels(path));
    Kernels kernels;
    add_all_compute(kernels, std::type_identity<ElementKernel>());
    add_all_reduce(kernels, std::type_identity<ReductionKernel>());
    add_all_in_stages(kernels, std::type_identity<BlockKernel>());
    bind_read_zeros(kernels);
    return kernels;
  }();
  const auto found = all.find(key_of(demangled(mangled)));
  return found == all.end() ? Bind() : found->second;
}

}  // namespace fake_gpu
