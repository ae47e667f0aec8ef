// SPDX-License-Identifier: Apache-2.0
// Division by a number that many threads share: GPUs have no instruction for it.
#pragma once

#include <cstdint>

#include "core/host_device.h"

namespace triphase {

// A positive number to divide by. In 32 bits, n >= 0 is divided by a multiplication and a shift (Granlund and
// Montgomery, Division by invariant integers using multiplication, 1994, figure 4.1); in 64 bits as usual.
class Divisor {
 public:
  Divisor(int64_t divisor) : divisor_(divisor) {
    constexpr uint64_t kBeyond = uint64_t{1} << 31;
    const auto d = static_cast<uint64_t>(divisor);
    if (d < kBeyond) {
      while (uint64_t{1} << shift_ < d) ++shift_;
      factor_ = static_cast<uint32_t>((uint64_t{1} << 32) * ((uint64_t{1} << shift_) - d) / d + 1);
    } else {
      shift_ = 31;  // every n is less
    }
  }

  TRIPHASE_HOST_DEVICE operator int64_t() const { return divisor_; }

  TRIPHASE_HOST_DEVICE friend int32_t operator/(int32_t n, const Divisor& d) {
    const auto dividend = static_cast<uint32_t>(n);
#ifdef __CUDA_ARCH__
    const uint32_t high = __umulhi(dividend, d.factor_);
#else
    const auto high = static_cast<uint32_t>(static_cast<uint64_t>(dividend) * d.factor_ >> 32);
#endif
    return static_cast<int32_t>((high + dividend) >> d.shift_);
  }
  TRIPHASE_HOST_DEVICE friend int64_t operator/(int64_t n, const Divisor& d) { return n / d.divisor_; }
  template <class Index>
  TRIPHASE_HOST_DEVICE friend Index operator%(Index n, const Divisor& d) {
    return n - n / d * d;
  }
  // The product must fit.
  template <class Index>
  TRIPHASE_HOST_DEVICE friend Index operator*(Index n, const Divisor& d) {
    return n * static_cast<Index>(d.divisor_);
  }

 private:
  int64_t divisor_;
  uint32_t factor_ = 0;
  uint32_t shift_ = 0;
};

}  // namespace triphase
