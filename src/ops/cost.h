// SPDX-License-Identifier: Apache-2.0
// What an op costs by formula, under the three conventions for FLOP and as compulsory traffic. Nothing is timed here.
// The formulas of flop_executed are checked against the operations that the reference really executes on Counted.
#pragma once

#include <cstdint>
#include <vector>

#include "ops/ops.h"

namespace triphase {

struct Cost {
  int64_t flop = 0;           // nominal: contractions, 2 per multiply-accumulate, padded taps counted; and updates
  int64_t flop_unpadded = 0;  // the same without the taps that fall into padding
  int64_t flop_executed = 0;  // every arithmetic operation and comparison that the reference executes
  int64_t traffic_bytes = 0;  // each operand once, by dtype; an optimizer's scalars stay in registers

  Cost& operator+=(const Cost& other);
  bool operator==(const Cost&) const = default;
};

// Throws SizeOverflow where a count passes 2^63 - 1.
Cost cost(const OpKind& kind, const std::vector<TensorType>& inputs, const std::vector<TensorType>& outputs);

}  // namespace triphase
