// SPDX-License-Identifier: Apache-2.0
// Declares the few functions and constants that it needs of NVML, as NVML's reference manual has them
// (docs.nvidia.com/deploy/nvml-api): few toolkits bring nvml.h, and a build without CUDA has this file as well.
//
// The manual renames functions, and drivers drop old names late: of two names of a reading the newer is asked first.
#include "backends/cuda/nvml.h"

#include <array>
#include <cstdint>
#include <cstdio>

#include "core/error.h"

namespace triphase::cuda {
namespace {

using Status = int;    // nvmlReturn_t
using Device = void*;  // nvmlDevice_t
constexpr Status kSuccess = 0;
constexpr int kSmClock = 1;          // NVML_CLOCK_SM
constexpr int kMemoryClock = 2;      // NVML_CLOCK_MEM
constexpr int kGpuTemperature = 0;   // NVML_TEMPERATURE_GPU
constexpr unsigned kPowerNow = 186;  // NVML_FI_DEV_POWER_INSTANT: mW
constexpr int kUnsigned = 1;         // NVML_VALUE_TYPE_UNSIGNED_INT

struct Temperature {  // nvmlTemperature_v1_t
  unsigned version = static_cast<unsigned>(sizeof(Temperature)) | 1u << 24;
  int sensor = kGpuTemperature;
  int celsius = 0;
};

struct FieldValue {  // nvmlFieldValue_t
  unsigned field = 0;
  unsigned scope = 0;  // NVML_POWER_SCOPE_GPU
  int64_t timestamp_us = 0, latency_us = 0;
  int type = 0;
  Status status = kSuccess;
  union {
    double any_other;
    unsigned number;
  } value = {};
};

using Plain = Status();                                // nvmlInit_v2, nvmlShutdown
using DriverVersion = Status(char*, unsigned);         // nvmlSystemGetDriverVersion
using HandleByBusId = Status(const char*, Device*);    // nvmlDeviceGetHandleByPciBusId_v2
using OneOfAKind = Status(Device, int, unsigned*);     // nvmlDeviceGetClockInfo: MHz; nvmlDeviceGetTemperature: °C
using Power = Status(Device, unsigned*);               // nvmlDeviceGetPowerUsage: mW, of the last second from Ampere on
using FieldValues = Status(Device, int, FieldValue*);  // nvmlDeviceGetFieldValues
using AnyTemperature = Status(Device, Temperature*);   // nvmlDeviceGetTemperatureV
using Reasons = Status(Device, unsigned long long*);   // nvmlDeviceGetCurrentClocks{Event,Throttle}Reasons

struct StatusMeaning {
  Status status;
  const char* name;
  const char* meaning;
};
constexpr StatusMeaning kStatuses[] = {
    {1, "NVML_ERROR_UNINITIALIZED", "the library was not initialised"},
    {2, "NVML_ERROR_INVALID_ARGUMENT", "an argument is invalid"},
    {3, "NVML_ERROR_NOT_SUPPORTED", "not available on this device"},
    {4, "NVML_ERROR_NO_PERMISSION", "this user may not do that"},
    {5, "NVML_ERROR_ALREADY_INITIALIZED", "initialised more than once"},
    {6, "NVML_ERROR_NOT_FOUND", "no such device"},
    {7, "NVML_ERROR_INSUFFICIENT_SIZE", "an argument is too small"},
    {8, "NVML_ERROR_INSUFFICIENT_POWER", "the device's power cables are not attached properly"},
    {9, "NVML_ERROR_DRIVER_NOT_LOADED", "the NVIDIA driver is not loaded"},
    {10, "NVML_ERROR_TIMEOUT", "out of time"},
    {11, "NVML_ERROR_IRQ_ISSUE", "the kernel sees an interrupt problem with a GPU"},
    {12, "NVML_ERROR_LIBRARY_NOT_FOUND", "a library that NVML needs was not found"},
    {13, "NVML_ERROR_FUNCTION_NOT_FOUND", "this version of NVML lacks the function"},
    {14, "NVML_ERROR_CORRUPTED_INFOROM", "the device's infoROM is corrupted"},
    {15, "NVML_ERROR_GPU_IS_LOST", "the GPU has fallen off the bus"},
    {16, "NVML_ERROR_RESET_REQUIRED", "the GPU must be reset"},
    {17, "NVML_ERROR_OPERATING_SYSTEM", "the operating system or a container keeps the device from being used"},
    {18, "NVML_ERROR_LIB_RM_VERSION_MISMATCH", "the driver's library and its kernel module differ in version"},
    {19, "NVML_ERROR_IN_USE", "the GPU is in use"},
    {20, "NVML_ERROR_MEMORY", "out of memory"},
    {21, "NVML_ERROR_NO_DATA", "no data"},
    {22, "NVML_ERROR_VGPU_ECC_NOT_SUPPORTED", "not available on a virtual GPU with ECC"},
    {23, "NVML_ERROR_INSUFFICIENT_RESOURCES", "out of resources other than memory"},
    {24, "NVML_ERROR_FREQ_NOT_SUPPORTED", "the frequency is not supported"},
    {25, "NVML_ERROR_ARGUMENT_VERSION_MISMATCH", "an argument has a version that this driver does not know"},
    {26, "NVML_ERROR_DEPRECATED", "the function was removed"},
    {27, "NVML_ERROR_NOT_READY", "not ready yet"},
    {28, "NVML_ERROR_GPU_NOT_FOUND", "no GPU was found"},
    {29, "NVML_ERROR_INVALID_STATE", "the device is in a state that does not allow it"},
    {30, "NVML_ERROR_RESET_TYPE_NOT_SUPPORTED", "this kind of reset is not supported"},
    {999, "NVML_ERROR_UNKNOWN", "an internal error of the driver"},
};

struct ReasonMeaning {
  unsigned long long bit;
  const char* words;  // empty: no throttling
};
constexpr ReasonMeaning kReasons[] = {
    {0x001, ""},                           // nvmlClocksEventReasonGpuIdle
    {0x002, "application clocks"},         // nvmlClocksEventReasonApplicationsClocksSetting
    {0x004, "power cap"},                  // nvmlClocksEventReasonSwPowerCap
    {0x008, "hardware slowdown"},          // nvmlClocksThrottleReasonHwSlowdown
    {0x010, "sync boost"},                 // nvmlClocksEventReasonSyncBoost
    {0x020, "thermal"},                    // nvmlClocksEventReasonSwThermalSlowdown
    {0x040, "hardware thermal slowdown"},  // nvmlClocksThrottleReasonHwThermalSlowdown
    {0x080, "power brake"},                // nvmlClocksThrottleReasonHwPowerBrakeSlowdown
    {0x100, "display clocks"},             // nvmlClocksEventReasonDisplayClockSetting
};

std::vector<std::string> in_words(unsigned long long reasons) {
  std::vector<std::string> words;
  for (const ReasonMeaning& reason : kReasons) {
    if ((reasons & reason.bit) != 0 && *reason.words != '\0') words.emplace_back(reason.words);
    reasons &= ~reason.bit;
  }
  if (reasons != 0) {
    std::array<char, 40> text{};
    std::snprintf(text.data(), text.size(), "unknown (0x%llx)", reasons);
    words.emplace_back(text.data());
  }
  return words;
}

// Throws VendorError: "nvmlInit_v2: the NVIDIA driver is not loaded (NVML_ERROR_DRIVER_NOT_LOADED)"
void check(Status status, const std::string& call) {
  if (status == kSuccess) return;
  for (const StatusMeaning& known : kStatuses) {
    if (known.status == status) throw VendorError(call + ": " + known.meaning + " (" + known.name + ")");
  }
  throw VendorError(call + ": unknown status (" + std::to_string(status) + ")");
}

// Null where this driver has no such function.
template <class Function>
Function* optional_symbol(const Library& library, const char* name) {
  try {
    return library.symbol<Function>(name);
  } catch (const LibraryMissing&) {
    return nullptr;
  }
}

}  // namespace

// NVML, initialised for as long as this lives.
struct Nvml::Session {
  std::unique_ptr<const Library> library;
  Plain* init = library->symbol<Plain>("nvmlInit_v2");
  Plain* shutdown = library->symbol<Plain>("nvmlShutdown");
  DriverVersion* driver_version = library->symbol<DriverVersion>("nvmlSystemGetDriverVersion");
  HandleByBusId* handle_by_bus_id = library->symbol<HandleByBusId>("nvmlDeviceGetHandleByPciBusId_v2");
  OneOfAKind* clock = optional_symbol<OneOfAKind>(*library, "nvmlDeviceGetClockInfo");
  Power* power = optional_symbol<Power>(*library, "nvmlDeviceGetPowerUsage");
  FieldValues* field_values = optional_symbol<FieldValues>(*library, "nvmlDeviceGetFieldValues");
  AnyTemperature* temperature = optional_symbol<AnyTemperature>(*library, "nvmlDeviceGetTemperatureV");
  OneOfAKind* old_temperature = optional_symbol<OneOfAKind>(*library, "nvmlDeviceGetTemperature");
  Reasons* reasons = optional_symbol<Reasons>(*library, "nvmlDeviceGetCurrentClocksEventReasons");
  Reasons* old_reasons = optional_symbol<Reasons>(*library, "nvmlDeviceGetCurrentClocksThrottleReasons");

  explicit Session(std::unique_ptr<const Library> opened) : library(std::move(opened)) { check(init(), "nvmlInit_v2"); }
  ~Session() { shutdown(); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
};

Nvml::Nvml(const std::string& pci_bus_id)
    : Nvml(std::make_unique<const Library>("NVML", std::vector<std::string>{"libnvidia-ml.so.1"},
                                           "it comes with the NVIDIA driver, and into a container with its "
                                           "'utility' capability (NVIDIA_DRIVER_CAPABILITIES=compute,utility)"),
           pci_bus_id) {}

Nvml::Nvml(std::unique_ptr<const Library> library, const std::string& pci_bus_id)
    : session_(std::make_unique<const Session>(std::move(library))) {
  check(session_->handle_by_bus_id(pci_bus_id.c_str(), &device_),
        "nvmlDeviceGetHandleByPciBusId_v2(" + pci_bus_id + ")");
}

Nvml::~Nvml() = default;

DeviceState Nvml::state() const {
  DeviceState state;
  // What is of this very moment first, power last, which is a mean over a while.
  for (Reasons* reasons : {session_->reasons, session_->old_reasons}) {
    unsigned long long bits = 0;
    if (reasons == nullptr || reasons(device_, &bits) != kSuccess) continue;
    state.throttled_by = in_words(bits);
    break;
  }
  unsigned value = 0;
  const auto read_clock = [&](int kind) -> std::optional<double> {
    if (session_->clock == nullptr || session_->clock(device_, kind, &value) != kSuccess) return {};
    return value * 1e6;
  };
  state.clock_hz = read_clock(kSmClock);
  state.memory_clock_hz = read_clock(kMemoryClock);
  Temperature temperature;
  if (session_->temperature != nullptr && session_->temperature(device_, &temperature) == kSuccess) {
    state.temperature_c = temperature.celsius;
  } else if (session_->old_temperature != nullptr &&
             session_->old_temperature(device_, kGpuTemperature, &value) == kSuccess) {
    state.temperature_c = value;
  }
  FieldValue power;
  power.field = kPowerNow;
  if (session_->field_values != nullptr && session_->field_values(device_, 1, &power) == kSuccess &&
      power.status == kSuccess && power.type == kUnsigned) {
    state.power_w = power.value.number / 1e3;
  } else if (session_->power != nullptr && session_->power(device_, &value) == kSuccess) {
    state.power_w = value / 1e3;
  }
  return state;
}

std::string Nvml::driver_version() const {
  std::array<char, 96> version{};  // NVML asks for 80
  check(session_->driver_version(version.data(), static_cast<unsigned>(version.size())), "nvmlSystemGetDriverVersion");
  return version.data();
}

}  // namespace triphase::cuda
