// SPDX-License-Identifier: Apache-2.0
// A shared library in NVML's place, with fixed numbers: device 1 answers everything, by the names of today; device 2
// supports nothing, and is idle; device 3 has reasons that nobody knows. With FAKE_NVML_OLD, as an old driver has it.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <initializer_list>

namespace {

constexpr int kSuccess = 0, kInvalidArgument = 2, kNotSupported = 3, kNotFound = 6;

int sessions = 0;

long number_of(const void* device) { return static_cast<long>(reinterpret_cast<intptr_t>(device)); }

template <class T>
int answer(const void* device, T* to, T value) {
  if (number_of(device) == 2) return kNotSupported;
  *to = value;
  return kSuccess;
}

int answer_reasons(const void* device, unsigned long long* to) {
  *to = number_of(device) == 1 ? 0x1 | 0x4 | 0x40 : number_of(device) == 2 ? 0x1 : 0x1ff | 0xa00;
  return kSuccess;
}

}  // namespace

extern "C" {

int fake_nvml_sessions() { return sessions; }

int nvmlInit_v2() {
  ++sessions;
  return kSuccess;
}

int nvmlShutdown() {
  --sessions;
  return kSuccess;
}

int nvmlSystemGetDriverVersion(char* version, unsigned length) {
  std::snprintf(version, length, "580.65.06");
  return kSuccess;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char* pci_bus_id, void** device) {
  intptr_t number = 0;
  for (const char* known : {"0000:01:00.0", "0000:02:00.0", "0000:03:00.0"}) {
    ++number;
    if (std::strcmp(pci_bus_id, known) != 0) continue;
    *device = reinterpret_cast<void*>(number);
    return kSuccess;
  }
  return kNotFound;
}

int nvmlDeviceGetClockInfo(void* device, int kind, unsigned* clock_mhz) {
  if (kind != 1 && kind != 2) return kInvalidArgument;
  return answer(device, clock_mhz, kind == 1 ? 1980u : 2619u);
}

int nvmlDeviceGetPowerUsage(void* device, unsigned* power_mw) { return answer(device, power_mw, 312345u); }

#ifdef FAKE_NVML_OLD
int nvmlDeviceGetTemperature(void* device, int sensor, unsigned* temperature_c) {
  return sensor == 0 ? answer(device, temperature_c, 54u) : kInvalidArgument;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(void* device, unsigned long long* reasons) {
  return answer_reasons(device, reasons);
}
#else
struct FieldValue {
  unsigned field, scope;
  long long timestamp_us, latency_us;
  int type, status;
  unsigned long long value;
};

int nvmlDeviceGetFieldValues(void* device, int count, FieldValue* values) {
  if (count != 1 || values->field != 186 || values->scope != 0) return kInvalidArgument;
  values->type = 1;
  values->status = answer(device, &values->value, 345678ull);
  return kSuccess;
}

struct Temperature {
  unsigned version;
  int sensor;
  int temperature_c;
};

int nvmlDeviceGetTemperatureV(void* device, Temperature* temperature) {
  if (temperature->version != 0x100000c || temperature->sensor != 0) return kInvalidArgument;
  return answer(device, &temperature->temperature_c, 61);
}

int nvmlDeviceGetCurrentClocksEventReasons(void* device, unsigned long long* reasons) {
  return answer_reasons(device, reasons);
}
#endif
}
