// SPDX-License-Identifier: Apache-2.0
#include "bin/signals.h"

#include <atomic>
#include <csignal>

namespace triphase {
namespace {

std::atomic<int> g_signal = 0;

extern "C" void on_signal(int number) { g_signal = number; }

}  // namespace

int stop_signal() { return g_signal; }

void heed_signals() {
  if (const int signal = stop_signal(); signal != 0) throw Interrupted{signal};
}

void listen_for_signals() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

}  // namespace triphase
