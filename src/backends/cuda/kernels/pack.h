// SPDX-License-Identifier: Apache-2.0
// What a thread reads or writes of an operand at once.
#pragma once

#include <cstdint>

#include "core/host_device.h"

namespace triphase::cuda::kernels {

// Neighbours in memory that a thread reads or writes at once.
template <class T, int kWidth>
struct alignas(sizeof(T) * kWidth) Pack {
  T values[kWidth];

  template <class To>
  TRIPHASE_HOST_DEVICE Pack<To, kWidth> as() const {
    Pack<To, kWidth> result;
    TRIPHASE_UNROLL
    for (int n = 0; n < kWidth; ++n) result.values[n] = values[n];
    return result;
  }
  template <class Other>
  TRIPHASE_HOST_DEVICE Pack& operator+=(const Pack<Other, kWidth>& other) {
    TRIPHASE_UNROLL
    for (int n = 0; n < kWidth; ++n) values[n] += other.values[n];
    return *this;
  }
};

// Channels side by side that a thread computes at once where it can: what does not depend on them is computed once.
inline constexpr int kChannelsTogether = 4;

}  // namespace triphase::cuda::kernels
