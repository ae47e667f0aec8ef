// SPDX-License-Identifier: Apache-2.0
// The own kernels: what neither cuBLASLt nor cuDNN is asked for. Each is a struct of addresses and sizes, written once
// for the GPU and for the host that stands in for it in tests.
//
// Element kernels compute element i by value(i) and write it by put(i, value). Elements do not depend on each other, so
// that the result may take the place of an operand of the same size, and a thread may compute several before it writes
// the first: their reads are then on the way at once. Gradients of windows gather, so that nothing is added atomically
// and each element is written once. Reduction kernels sum terms of a segment in any order by merge(), then finish() it;
// where the same terms of neighbouring segments are adjacent in memory they say so, by a constant if it is always the
// same. Block kernels are run by one block in stages(), between which its threads wait for each other and share memory.
//
// T is what activations and their gradients are kept in; all is computed, and parameters are kept, in f32. Index is
// what elements are counted in: 32 bits where that suffices, since GPUs divide them so much faster.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <variant>

#include "backends/cuda/kernels/elementwise.h"
#include "backends/cuda/kernels/losses.h"
#include "backends/cuda/kernels/memory.h"
#include "backends/cuda/kernels/normalisation.h"
#include "backends/cuda/kernels/pooling.h"
#include "backends/cuda/kernels/sums.h"
#include "backends/cuda/kernels/update.h"
#include "core/host_device.h"
#include "core/narrow.h"
#include "optimizers/optimizers.h"

namespace triphase::cuda {

// All of them, for every T and every optimizer.
template <class... Lists>
struct Joined;
template <class... Kernel>
struct Joined<std::variant<Kernel...>> {
  using Kernels = std::variant<Kernel...>;
};
template <class... A, class... B, class... Lists>
struct Joined<std::variant<A...>, std::variant<B...>, Lists...> : Joined<std::variant<A..., B...>, Lists...> {};

template <class T, class Rules>
struct ElementKernels;
template <class T, class... Rule>
struct ElementKernels<T, std::variant<Rule...>> {
  using Kernels = std::variant<
      kernels::Relu<T>, kernels::ReluBackward<T>, kernels::Add<T>, kernels::AddBias<T>, kernels::MaxPool<T, uint8_t, 1>,
      kernels::MaxPool<T, uint8_t, kernels::kChannelsTogether>, kernels::MaxPool<T, uint8_t, 1, 2>,
      kernels::MaxPool<T, uint8_t, kernels::kChannelsTogether, 2>, kernels::MaxPool<T, uint8_t, 1, 3>,
      kernels::MaxPool<T, uint8_t, kernels::kChannelsTogether, 3>, kernels::MaxPool<T, int32_t, 1>,
      kernels::MaxPool<T, int32_t, kernels::kChannelsTogether>, kernels::MaxPoolBackward<T, uint8_t, 1>,
      kernels::MaxPoolBackward<T, uint8_t, kernels::kChannelsTogether>, kernels::MaxPoolBackward<T, int32_t, 1>,
      kernels::MaxPoolBackward<T, int32_t, kernels::kChannelsTogether>, kernels::MaxPoolBackwardInBlocks<T, uint8_t, 1>,
      kernels::MaxPoolBackwardInBlocks<T, uint8_t, kernels::kChannelsTogether>, kernels::AveragePool<T, 1>,
      kernels::AveragePool<T, kernels::kChannelsTogether>, kernels::AveragePoolBackward<T, 1>,
      kernels::AveragePoolBackward<T, kernels::kChannelsTogether>, kernels::Normalise<T, 1>,
      kernels::Normalise<T, kernels::kChannelsTogether>, kernels::NormaliseBackward<T, 1>,
      kernels::NormaliseBackward<T, kernels::kChannelsTogether>, kernels::Probabilities<T>,
      kernels::SoftmaxCrossEntropyBackward<T>, kernels::Scale<T>, kernels::Convert<T>, kernels::Transpose<T>,
      kernels::Update<Rule, T>...>;
};
template <class T>
using ElementKernelsOf = typename ElementKernels<T, Optimizer>::Kernels;
using ElementKernel =
    Joined<ElementKernelsOf<float>, ElementKernelsOf<BF16>, ElementKernelsOf<F16>,
           std::variant<kernels::Blend, kernels::Fill, kernels::CopyQuads, kernels::Subtract, kernels::Chase>>::Kernels;

template <class T>
using ReductionKernelsOf =
    std::variant<kernels::BiasGradient<T>, kernels::PlaneMean<T>, kernels::Moments<T>, kernels::NormaliseGradients<T>,
                 kernels::SumOfExponentials<T>, kernels::CrossEntropy<T>, kernels::MeanSquare<T>>;
using ReductionKernel = Joined<ReductionKernelsOf<float>, ReductionKernelsOf<BF16>, ReductionKernelsOf<F16>,
                               std::variant<kernels::SumOfQuads>>::Kernels;

// Those that one block computes in stages.
using BlockKernel = std::variant<kernels::SmallSoftmaxCrossEntropy<float>, kernels::SmallSoftmaxCrossEntropy<BF16>,
                                 kernels::SmallSoftmaxCrossEntropy<F16>>;

template <class Kernel>
concept OverWindows = requires(const Kernel& kernel) {
  kernel.pool;
};

// Calls f.operator()<Index>() with what a kernel over so many elements or terms may count in.
template <class Kernel, class F>
void with_index_type(const Kernel& kernel, int64_t count, F f) {
  constexpr int64_t kFew = 1 << 30;  // so that a few steps of all threads beyond the end fit as well
  if constexpr (OverWindows<Kernel>) count = std::max(count, kernel.pool.most());
  if (count < kFew) {
    f.template operator()<int32_t>();
  } else {
    f.template operator()<int64_t>();
  }
}

// What one thread does of an element kernel: element `first`, and every `stride`-th from there. Several are on their
// way at once, but of windows, which have many operands of their own.
template <class Index, class Kernel>
TRIPHASE_HOST_DEVICE void compute_elements(const Kernel& kernel, Index first, Index stride, Index count) {
  constexpr int kAtOnce = OverWindows<Kernel> ? 1 : 4;
  Index i = first;
  if constexpr (kAtOnce > 1) {
    using Value = decltype(kernel.value(count));
    for (; i + (kAtOnce - 1) * stride < count; i += kAtOnce * stride) {
      Value values[kAtOnce];
      TRIPHASE_UNROLL
      for (int n = 0; n < kAtOnce; ++n) values[n] = kernel.value(i + n * stride);
      TRIPHASE_UNROLL
      for (int n = 0; n < kAtOnce; ++n) kernel.put(i + n * stride, values[n]);
    }
  }
  TRIPHASE_NO_UNROLL
  for (; i < count; i += stride) kernel.put(i, kernel.value(i));
}

// Threads of a block that reduces. It sums one segment, each thread every kReducers-th term, then pairs of threads; or
// kAdjacent segments, whose threads then read side by side.
inline constexpr int kReducers = 256;
inline constexpr int kAdjacent = 32;

// What the threads of such a block do, in stages that all of them end before any begins the next: sum(); merge() for
// half = kOfSegment / 2, halved until it is 1; finish(). The order of merging is fixed.
template <int kTogether, class Index, class Kernel>
struct ReducingBlock {
  using Sum = typename Kernel::Sum;
  static constexpr int kOfSegment = kReducers / kTogether;  // threads

  const Kernel& kernel;
  Index segments, terms;
  Index block;  // its number
  Sum* sums;    // of its threads, shared

  TRIPHASE_HOST_DEVICE Index segment(int thread) const { return block * kTogether + thread % kTogether; }

  TRIPHASE_HOST_DEVICE void sum(int thread) const {
    Sum own = Kernel::nothing();
    if (segment(thread) < segments) {
      Index end = terms;
      if constexpr (requires { kernel.terms_of(end); }) end = kernel.terms_of(segment(thread));
      Index t = thread / kTogether;
      if constexpr (requires { own.centred(); }) {
        constexpr int kStretch = 32;  // whose reads are on their way at once
        for (; t + (kStretch - 1) * kOfSegment < end; t += kStretch * kOfSegment) {
          TRIPHASE_UNROLL
          for (int n = 0; n < kStretch; ++n) kernels::add_term_to(own, kernel, segment(thread), t + n * kOfSegment);
          own = own.centred();
        }
      }
      for (; t < end; t += kOfSegment) kernels::add_term_to(own, kernel, segment(thread), t);
    }
    sums[thread] = own;
  }
  TRIPHASE_HOST_DEVICE void merge(int thread, int half) const {
    if (thread / kTogether < half) sums[thread] = Kernel::merge(sums[thread], sums[thread + half * kTogether]);
  }
  TRIPHASE_HOST_DEVICE void finish(int thread) const {
    if (thread < kTogether && segment(thread) < segments) kernel.finish(segment(thread), sums[thread]);
  }
};

// Calls f.operator()<kTogether>() with how many segments a block then sums.
template <class Adjacent, class F>
void with_together(Adjacent adjacent, F f) {
  if constexpr (!std::is_same_v<Adjacent, std::false_type>) {
    if (adjacent) return f.template operator()<kAdjacent>();
  }
  if constexpr (!std::is_same_v<Adjacent, std::true_type>) f.template operator()<1>();
}

// Room for the sums of parts.
inline constexpr int64_t kPartsBytes = 1 << 20;

// Runs a reduction by calls of run(kernel, segments, terms, adjacent): in parts, and then over the parts, where as many
// blocks as run at a time, which blocks_that_fit(std::type_identity<InParts<Kernel>>(), adjacent) tells, make two parts
// at least and every thread has terms enough.
template <class Kernel, class BlocksThatFit, class Run>
void reduce_in_parts(const Kernel& kernel, int64_t segments, int64_t terms, BlocksThatFit blocks_that_fit,
                     std::byte* space, Run run) {
  using Sum = typename Kernel::Sum;
  constexpr int64_t kTermsWorthAThread = 2;
  const auto adjacent = kernel.adjacent();
  const int64_t together = adjacent ? kAdjacent : 1;
  const int64_t blocks_alone = (segments + together - 1) / together;
  const int64_t most = std::min(terms / (kReducers / together * kTermsWorthAThread),
                                kPartsBytes / static_cast<int64_t>(sizeof(Sum)) / segments);
  const int64_t blocks = blocks_that_fit(std::type_identity<kernels::InParts<Kernel>>(), adjacent);
  const int64_t parts = std::min(blocks / blocks_alone, most);  // a few blocks more would wait for all others
  if (parts < 2) return run(kernel, segments, terms, adjacent);
  auto* sums = reinterpret_cast<Sum*>(space);
  const int64_t length = (terms + parts - 1) / parts;
  run(kernels::InParts<Kernel>{kernel, sums, segments, terms, length}, segments * parts, length, adjacent);
  run(kernels::OfParts<Kernel>{kernel, sums, segments}, segments, parts, std::true_type());
}

}  // namespace triphase::cuda
