// SPDX-License-Identifier: Apache-2.0
// What NVML, the driver's library that watches over GPUs, says of a device at a moment: clocks, power, temperature, and
// why the clocks are held down. Located as the program runs; knows nothing of CUDA's runtime.
#pragma once

#include <memory>
#include <string>

#include "backends/backend.h"
#include "backends/cuda/library.h"

namespace triphase::cuda {

class Nvml {
 public:
  // The device as cudaDeviceGetPCIBusId names it, "0000:65:00.0", whatever number the process knows it by.
  // Throws LibraryMissing, and VendorError for a call that fails, such as for an unknown device.
  explicit Nvml(const std::string& pci_bus_id);
  Nvml(std::unique_ptr<const Library> library, const std::string& pci_bus_id);  // another library in NVML's place
  ~Nvml();

  // What the driver or the device does not say is absent; idleness throttles nothing.
  DeviceState state() const;
  std::string driver_version() const;

 private:
  struct Session;
  std::unique_ptr<const Session> session_;
  void* device_ = nullptr;
};

}  // namespace triphase::cuda
