// SPDX-License-Identifier: Apache-2.0
// What a time depends on beside the code: processor, threads, memory, system. Read from /proc and /sys; what cannot be
// read is absent.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace triphase {

// {"cpu", "microarchitecture", "cpus", "memory_bytes", "system", "compiler", "virtual_machine", "governor",
// "transparent_huge_pages", "fingerprint"}; the fingerprint is a hash of the others. A build that is slowed down on
// purpose says so in "planted_slowdown" beside: its times are to be compared with those of the same machine.
nlohmann::ordered_json environment();
// A hash of a JSON value as 16 hexadecimal digits: equal for what is written alike.
std::string fingerprint_of(const nlohmann::ordered_json& json);

// Processors that this process may run on, as "0-3,8".
std::string affinity();
int usable_cpus();

// Whether a core runs several threads at once; absent where the system does not say.
std::optional<bool> simultaneous_multithreading();
// Memory nodes; at least 1.
int numa_nodes();

// What may be allocated now: what the system says is available, no more than the control group allows.
int64_t available_memory_bytes();

// Now, as ISO 8601 with the offset: 2026-11-22T04:10:00+00:00.
std::string iso_time();

}  // namespace triphase
