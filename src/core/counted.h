// SPDX-License-Identifier: Apache-2.0
// A double that counts the floating-point operations done on it: additions, subtractions, multiplications, divisions,
// square roots, transcendentals and comparisons; conversions and copies count nothing. Running the reference on it
// yields flop_executed without any formula.
#pragma once

#include <cmath>
#include <cstdint>

namespace triphase {

class Counted {
 public:
  Counted() = default;
  Counted(double value) : value_(value) {}  // implicit, so that constants read as in plain arithmetic

  double value() const { return value_; }

  // The operations done by this thread so far.
  static int64_t& count() {
    thread_local int64_t operations = 0;
    return operations;
  }

  friend Counted operator+(Counted a, Counted b) { return tick(a.value_ + b.value_); }
  friend Counted operator-(Counted a, Counted b) { return tick(a.value_ - b.value_); }
  friend Counted operator*(Counted a, Counted b) { return tick(a.value_ * b.value_); }
  friend Counted operator/(Counted a, Counted b) { return tick(a.value_ / b.value_); }
  Counted& operator+=(Counted b) { return *this = *this + b; }
  Counted& operator-=(Counted b) { return *this = *this - b; }
  Counted& operator*=(Counted b) { return *this = *this * b; }
  friend bool operator>(Counted a, Counted b) {
    ++count();
    return a.value_ > b.value_;
  }
  friend Counted sqrt(Counted a) { return tick(std::sqrt(a.value_)); }
  friend Counted exp(Counted a) { return tick(std::exp(a.value_)); }
  friend Counted log(Counted a) { return tick(std::log(a.value_)); }

 private:
  static Counted tick(double value) {
    ++count();
    return value;
  }

  double value_ = 0;
};

}  // namespace triphase
