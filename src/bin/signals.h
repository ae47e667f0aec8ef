// SPDX-License-Identifier: Apache-2.0
// Being asked to stop: by Ctrl-C or by another process.
#pragma once

namespace triphase {

// The signal that asked to stop, or 0; a handler has no other way in than a global.
int stop_signal();
// From here on SIGINT and SIGTERM ask; a second one ends the process at once.
void listen_for_signals();

// What ends work that has nothing to keep, once asked to stop.
struct Interrupted {
  int signal = 0;
};
// Throws Interrupted once asked to stop.
void heed_signals();

}  // namespace triphase
