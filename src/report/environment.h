// SPDX-License-Identifier: Apache-2.0
// What a time depends on beside the code: processor, threads, memory, system. Read from /proc and /sys; what cannot be
// read is absent.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>

namespace triphase {

// {"cpu", "sockets", "cores", "numa_nodes", "smt", "memory_bytes", "system", "compiler", "governor", "huge_pages",
// "virtual_machine", "fingerprint"}; the fingerprint is a hash of all that makes times comparable.
nlohmann::ordered_json environment();

// Processors that this process may run on, as "0-3,8".
std::string affinity();
int usable_cpus();

// What may be allocated now: what the system says is available, no more than the control group allows.
int64_t available_memory_bytes();

}  // namespace triphase
