// SPDX-License-Identifier: Apache-2.0
// A double that carries a bound on how far the same computation in single precision may stray: Wilkinson's running
// error analysis (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.3), to first order, for any
// formula.
#pragma once

#include <cmath>

namespace triphase {

inline constexpr double kUnitRoundoffF32 = 0x1p-24;

class RunningError {
 public:
  RunningError() = default;
  RunningError(double value) : value_(value) {}  // a constant that single precision rounds once
  static RunningError exact(double value) { return {value, 0}; }

  double value() const { return value_; }
  double error() const { return error_; }

  friend RunningError operator+(RunningError a, RunningError b) {
    return rounded(a.value_ + b.value_, a.error_ + b.error_);
  }
  friend RunningError operator-(RunningError a, RunningError b) {
    return rounded(a.value_ - b.value_, a.error_ + b.error_);
  }
  friend RunningError operator*(RunningError a, RunningError b) {
    return rounded(a.value_ * b.value_,
                   std::abs(a.value_) * b.error_ + std::abs(b.value_) * a.error_ + a.error_ * b.error_);
  }
  friend RunningError operator/(RunningError a, RunningError b) {
    const double quotient = a.value_ / b.value_;
    return rounded(quotient, (a.error_ + std::abs(quotient) * b.error_) / std::abs(b.value_));
  }
  RunningError& operator+=(RunningError b) { return *this = *this + b; }
  RunningError& operator-=(RunningError b) { return *this = *this - b; }
  friend RunningError sqrt(RunningError a) {
    const double root = std::sqrt(a.value_);
    return rounded(root, root > 0 ? a.error_ / root : std::sqrt(a.error_));
  }

 private:
  RunningError(double value, double error) : value_(value), error_(error) {}
  static RunningError rounded(double value, double error) {
    return {value, error + kUnitRoundoffF32 * std::abs(value)};
  }

  double value_ = 0;
  double error_ = kUnitRoundoffF32 * std::abs(value_);
};

}  // namespace triphase
