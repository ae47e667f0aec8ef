// SPDX-License-Identifier: Apache-2.0
// Random numbers keyed by (stream, index): any element can be drawn alone, in any order, by any thread or program.
// Bits come from SplitMix64's finalizer (Steele, Lea and Flood, 2014); normal numbers from the inverse of the normal
// distribution, AS 241's PPND7 (Wichura, 1988), whose relative error of 1e-7 is that of a float.
#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>

namespace triphase {

// 64 well-mixed bits for element `index` of `stream`.
inline uint64_t random_bits(uint64_t stream, uint64_t index) {
  uint64_t z = stream + (index + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// Uniform in (0, 1), from the upper 53 bits.
inline double random_uniform(uint64_t stream, uint64_t index) {
  return (static_cast<double>(random_bits(stream, index) >> 11) + 0.5) * 0x1p-53;
}

// The x with P(X <= x) = p for a standard normal X; p in (0, 1).
inline double normal_quantile(double p) {
  const double q = p - 0.5;
  if (std::abs(q) <= 0.425) {
    const double r = 0.180625 - q * q;
    return q * (((5.9109374720e1 * r + 1.5929113202e2) * r + 5.0434271938e1) * r + 3.3871327179e0) /
           (((6.7187563600e1 * r + 7.8757757664e1) * r + 1.7895169469e1) * r + 1.0);
  }
  double r = std::sqrt(-std::log(q < 0 ? p : 1.0 - p));
  double x = 0;
  if (r <= 5.0) {
    r -= 1.6;
    x = (((1.7023821103e-1 * r + 1.3067284816e0) * r + 2.7568153900e0) * r + 1.4234372777e0) /
        ((1.2021132975e-1 * r + 7.3700164250e-1) * r + 1.0);
  } else {
    r -= 5.0;
    x = (((1.7337203997e-2 * r + 4.2868294337e-1) * r + 3.0812263860e0) * r + 6.6579051150e0) /
        ((1.2258202635e-2 * r + 2.4197894225e-1) * r + 1.0);
  }
  return q < 0 ? -x : x;
}

// Standard normal.
inline double random_normal(uint64_t stream, uint64_t index) { return normal_quantile(random_uniform(stream, index)); }

// Standard normal, cut at -3 and 3, in 65536 equally likely levels: the middles of as many slices of the distribution.
inline constexpr uint64_t kTruncatedNormalLevels = 1 << 16;

inline double truncated_normal_level(uint64_t level) {
  constexpr double kBelowMinusThree = 0.0013498980316300933;
  const double p = (static_cast<double>(level) + 0.5) / static_cast<double>(kTruncatedNormalLevels);
  return normal_quantile(kBelowMinusThree + p * (1 - 2 * kBelowMinusThree));
}

inline uint64_t random_level(uint64_t stream, uint64_t index) { return random_bits(stream, index) >> 48; }

inline double random_truncated_normal(uint64_t stream, uint64_t index) {
  return truncated_normal_level(random_level(stream, index));
}

// A stream for a name and a seed: FNV-1a of the name, mixed with the seed.
inline uint64_t random_stream(std::string_view name, uint64_t seed) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return random_bits(hash, seed);
}

}  // namespace triphase
