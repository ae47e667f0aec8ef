// SPDX-License-Identifier: Apache-2.0
#include "report/environment.h"

#include <sched.h>
#include <sys/utsname.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

#include "core/random.h"

namespace triphase {
namespace {

// The first line of a file; empty where it cannot be read.
std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// The value of the first line "key : value" of a file.
std::string field(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    const size_t colon = line.find(':');
    const size_t begin = colon == std::string::npos ? colon : line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

int64_t kibibytes(const std::string& text) {
  int64_t value = 0;
  std::istringstream(text) >> value;
  return value * 1024;
}

std::string compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#else
  return "g++ " __VERSION__;
#endif
}

cpu_set_t allowed_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(0, sizeof set, &set);
  return set;
}

}  // namespace

std::string affinity() {
  const cpu_set_t set = allowed_cpus();
  std::string text;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &set)) continue;
    int last = cpu;
    while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, &set)) ++last;
    text += (text.empty() ? "" : ",") + std::to_string(cpu) + (last > cpu ? "-" + std::to_string(last) : "");
    cpu = last;
  }
  return text;
}

int usable_cpus() {
  const cpu_set_t set = allowed_cpus();
  return std::max(1, CPU_COUNT(&set));
}

std::optional<bool> simultaneous_multithreading() {
  const std::string active = first_line("/sys/devices/system/cpu/smt/active");
  if (active.empty()) return {};
  return active == "1";
}

int numa_nodes() {
  int nodes = 0;
  while (std::ifstream("/sys/devices/system/node/node" + std::to_string(nodes) + "/cpulist")) ++nodes;
  return std::max(nodes, 1);
}

int64_t available_memory_bytes() {
  int64_t bytes = kibibytes(field("/proc/meminfo", "MemAvailable"));
  const std::string limit = first_line("/sys/fs/cgroup/memory.max");
  const std::string used = first_line("/sys/fs/cgroup/memory.current");
  if (!limit.empty() && limit != "max" && !used.empty()) {
    bytes = std::min<int64_t>(bytes, std::stoll(limit) - std::stoll(used));
  }
  return std::max<int64_t>(bytes, 0);
}

std::string iso_time() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  char text[64];
  std::strftime(text, sizeof text, "%FT%T%z", &local);
  std::string iso = text;
  return iso.insert(iso.size() - 2, ":");
}

nlohmann::ordered_json environment() {
  nlohmann::ordered_json json;
  const auto put = [&](const char* key, const std::string& value) {
    if (!value.empty()) json[key] = value;
  };
  put("cpu", field("/proc/cpuinfo", "model name"));
  put("microarchitecture", [] {
    const std::string family = field("/proc/cpuinfo", "cpu family");
    const std::string model = field("/proc/cpuinfo", "model\t");
    return family.empty() ? "" : "family " + family + ", model " + model;
  }());
  json["cpus"] = std::thread::hardware_concurrency();
  json["memory_bytes"] = kibibytes(field("/proc/meminfo", "MemTotal"));
  utsname system{};
  if (uname(&system) == 0) put("system", std::string(system.sysname) + " " + system.release + " " + system.machine);
  put("compiler", compiler());
  put("virtual_machine", field("/proc/cpuinfo", "flags").find(" hypervisor") != std::string::npos ? "yes" : "no");
  put("governor", first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"));
  put("transparent_huge_pages", first_line("/sys/kernel/mm/transparent_hugepage/enabled"));
  json["fingerprint"] = fingerprint_of(json);
#ifdef TRIPHASE_PLANT
  json["planted_slowdown"] = TRIPHASE_PLANT;  // the program's, not the machine's
#endif
  return json;
}

std::string fingerprint_of(const nlohmann::ordered_json& json) {
  std::array<char, 20> hash{};
  std::snprintf(hash.data(), hash.size(), "%016lx", static_cast<unsigned long>(random_stream(json.dump(), 0)));
  return hash.data();
}

}  // namespace triphase
