// SPDX-License-Identifier: Apache-2.0
// Numbers and tables for people. Inside the program everything is SI and unformatted.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace triphase {

// 1234176512 -> "1.234 G": four significant digits and an SI prefix; integers below 10000 are written out. Unit not
// included.
std::string si(double value);
// Seconds with a unit of time: "12.3 µs".
std::string duration(double seconds);
// So many digits after the point: fixed(1.234, 2) is "1.23".
std::string fixed(double value, int digits);
// A share as "12.5 %".
std::string percent(double share);

// A table in columns: the first left-aligned, the others right. rule() draws a line before the next row.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : rows_{std::move(header)} {}
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  void rule() { rules_.push_back(rows_.size()); }
  std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
  std::vector<size_t> rules_;
};

}  // namespace triphase
