// SPDX-License-Identifier: Apache-2.0
// What this process has had of the processors, by the system's account.
#pragma once

#include <sys/resource.h>

#include <cstdint>

#include "core/clock.h"

namespace triphase {

inline constexpr double kBusySwitchesPerS = 100;

// Since it was made; rates are 0 before any time has passed.
class ProcessUsage {
 public:
  // CPU time / wall time.
  double cpu_share() const { return per_s(now().cpu_s - begin_.cpu_s); }
  // Involuntary context switches: how often others took a processor away, a second.
  double switches_per_s() const { return per_s(static_cast<double>(switches())); }
  int64_t switches() const { return now().switches - begin_.switches; }
  // Whether that was so often that times are not to be trusted; in a short time it must have been a few times.
  bool disturbed() const { return switches_per_s() > kBusySwitchesPerS && switches() >= kFewestSwitches; }

 private:
  static constexpr int64_t kFewestSwitches = 5;
  struct Account {
    double cpu_s = 0;
    int64_t switches = 0;  // involuntary
  };

  static Account now() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval& t) {
      return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
    };
    return {seconds(usage.ru_utime) + seconds(usage.ru_stime), usage.ru_nivcsw};
  }
  double per_s(double amount) const {
    const double elapsed_s = now_s() - begin_s_;
    return elapsed_s > 0 ? amount / elapsed_s : 0;
  }

  double begin_s_ = now_s();
  Account begin_ = now();
};

}  // namespace triphase
