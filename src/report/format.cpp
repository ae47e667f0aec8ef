// SPDX-License-Identifier: Apache-2.0
#include "report/format.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

namespace triphase {
namespace {

// Columns that a UTF-8 text takes on a terminal: its code points.
size_t width(const std::string& text) {
  return static_cast<size_t>(std::ranges::count_if(text, [](char c) { return (c & 0xc0) != 0x80; }));
}

std::string print(const char* format, double value) {
  std::array<char, 64> buffer{};
  std::snprintf(buffer.data(), buffer.size(), format, value);
  return buffer.data();
}

// Each limit is where rounding to one digit more would carry into a fifth.
std::string four_digits(double value) {
  const double size = std::abs(value);
  return fixed(value, size >= 999.95 ? 0 : size >= 99.995 ? 1 : size >= 9.9995 ? 2 : 3);
}

}  // namespace

std::string si(double value) {
  if (std::abs(value) < 10'000 && value == std::floor(value)) return fixed(value, 0) + " ";
  constexpr std::array kPrefixes = {"", "k", "M", "G", "T", "P", "E"};
  size_t prefix = 0;
  while (std::abs(value) >= 999.95 && prefix + 1 < kPrefixes.size()) value /= 1000, ++prefix;
  return four_digits(value) + " " + kPrefixes[prefix];
}

std::string duration(double seconds) {
  if (seconds == 0) return "0 s";
  constexpr std::array kUnits = {"s", "ms", "µs", "ns"};
  size_t unit = 0;
  while (std::abs(seconds) < 0.99995 && unit + 1 < kUnits.size()) seconds *= 1000, ++unit;
  return four_digits(seconds) + " " + kUnits[unit];
}

std::string fixed(double value, int digits) {
  std::array<char, 16> format{};
  std::snprintf(format.data(), format.size(), "%%.%df", digits);
  return print(format.data(), value);
}

std::string percent(double share) { return fixed(100 * share, 1) + " %"; }

std::string Table::text() const {
  std::vector<size_t> widths;
  for (const auto& row : rows_) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  }
  size_t total = 0;
  for (const size_t w : widths) total += w + 2;
  std::string text;
  for (size_t r = 0; r < rows_.size(); ++r) {
    if (r == 1 || std::ranges::count(rules_, r)) text += std::string(total - 2, '-') + "\n";
    std::string line;
    for (size_t i = 0; i < rows_[r].size(); ++i) {
      const std::string pad(widths[i] - width(rows_[r][i]), ' ');
      line += i == 0 ? rows_[r][i] + pad : "  " + pad + rows_[r][i];
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

}  // namespace triphase
