// SPDX-License-Identifier: Apache-2.0
#include "report/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "core/clock.h"

namespace triphase {
namespace {

std::string clock_text(double seconds) {
  const auto whole = static_cast<long>(std::max(0.0, std::round(seconds)));
  char text[32];
  std::snprintf(text, sizeof text, "%ld:%02ld", whole / 60, whole % 60);
  return text;
}

size_t terminal_width() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 80;
}

}  // namespace

ProgressLine::ProgressLine(int cases, double expected_s)
    : cases_(cases), expected_s_(expected_s), begin_s_(now_s()), terminal_(isatty(STDERR_FILENO) == 1) {
  const char* no_colour = std::getenv("NO_COLOR");
  colour_ = terminal_ && !(no_colour && *no_colour);
}

void ProgressLine::show(int index, const std::string& name, const std::string& stage, double fraction,
                        double expected_before_s, double expected_case_s) {
  constexpr double kRedraw_s = 0.1;
  if (!terminal_ || now_s() - shown_s_ < kRedraw_s) return;
  shown_s_ = now_s();
  // The rest at the pace so far, once there is one.
  const double done_s = expected_before_s + fraction * expected_case_s;
  const double pace = done_s > 1 ? (shown_s_ - begin_s_) / done_s : 1;
  const double left_s = (expected_s_ - done_s) * pace;
  constexpr int kBar = 20;
  const int filled = std::clamp(static_cast<int>(kBar * done_s / std::max(expected_s_, 1e-9)), 0, kBar);
  std::string line = "[" + std::string(static_cast<size_t>(filled), '#') +
                     std::string(static_cast<size_t>(kBar - filled), '.') + "] " + std::to_string(index + 1) + "/" +
                     std::to_string(cases_) + "  " + clock_text(left_s) + " left  " + stage + "  " + name;
  line = line.substr(0, terminal_width() - 1);
  std::fprintf(stderr, "\r%s\033[K", line.c_str());
  std::fflush(stderr);
  drawn_ = true;
}

void ProgressLine::finish(int index, const std::string& name, const std::string& outcome, bool good) {
  clear();
  const char* begin = colour_ ? (good ? "\033[32m" : "\033[33m") : "";
  std::fprintf(stderr, "%s[%d/%d]%s %s  %s\n", begin, index + 1, cases_, colour_ ? "\033[0m" : "", name.c_str(),
               outcome.c_str());
}

void ProgressLine::note(const std::string& text) {
  clear();
  std::fprintf(stderr, "%s\n", text.c_str());
}

void ProgressLine::clear() {
  if (drawn_) std::fprintf(stderr, "\r\033[K");
  drawn_ = false;
}

}  // namespace triphase
