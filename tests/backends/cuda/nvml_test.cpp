// SPDX-License-Identifier: Apache-2.0
// Reads a fake NVML with fixed numbers (fake_nvml.cpp): units, words, what is absent, and what is refused.
#include "backends/cuda/nvml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"

namespace triphase::cuda {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::unique_ptr<const Library> fake(const std::string& file = FAKE_NVML) {
  return std::make_unique<const Library>("NVML", std::vector{file}, "");
}

int sessions() { return fake()->symbol<int()>("fake_nvml_sessions")(); }

TEST(Nvml, reads_a_device_in_SI_units) {
  const Nvml nvml(fake(), "0000:01:00.0");
  const DeviceState state = nvml.state();
  EXPECT_EQ(state.clock_hz, 1.98e9);
  EXPECT_EQ(state.memory_clock_hz, 2.619e9);
  EXPECT_EQ(state.power_w, 345.678);  // now, not of the last second
  EXPECT_EQ(state.temperature_c, 61);
  EXPECT_THAT(state.throttled_by, ElementsAre("power cap", "hardware thermal slowdown"));
  EXPECT_EQ(nvml.driver_version(), "580.65.06");
}

TEST(Nvml, reads_an_older_driver_by_its_names) {
  const DeviceState state = Nvml(fake(FAKE_NVML_OLD), "0000:01:00.0").state();
  EXPECT_EQ(state.power_w, 312.345);
  EXPECT_EQ(state.temperature_c, 54);
  EXPECT_THAT(state.throttled_by, ElementsAre("power cap", "hardware thermal slowdown"));
}

TEST(Nvml, what_a_device_does_not_say_is_absent_and_idleness_is_no_reason) {
  for (const char* file : {FAKE_NVML, FAKE_NVML_OLD}) {
    const DeviceState state = Nvml(fake(file), "0000:02:00.0").state();
    EXPECT_FALSE(state.clock_hz || state.memory_clock_hz || state.power_w || state.temperature_c);
    EXPECT_THAT(state.throttled_by, IsEmpty());
  }
}

TEST(Nvml, names_every_reason_and_shows_an_unknown_one) {
  EXPECT_THAT(Nvml(fake(), "0000:03:00.0").state().throttled_by,
              ElementsAre("application clocks", "power cap", "hardware slowdown", "sync boost", "thermal",
                          "hardware thermal slowdown", "power brake", "display clocks", "unknown (0xa00)"));
}

TEST(Nvml, an_unknown_device_is_refused_with_the_status_by_name) {
  try {
    const Nvml nvml(fake(), "0000:09:00.0");
    FAIL() << "found";
  } catch (const VendorError& error) {
    EXPECT_STREQ(error.what(), "nvmlDeviceGetHandleByPciBusId_v2(0000:09:00.0): no such device (NVML_ERROR_NOT_FOUND)");
  }
}

TEST(Nvml, every_session_ends) {
  {
    const Nvml nvml(fake(), "0000:01:00.0");
    EXPECT_EQ(sessions(), 1);
  }
  EXPECT_THROW(Nvml(fake(), "0000:09:00.0"), VendorError);
  EXPECT_EQ(sessions(), 0);
}

TEST(Nvml, a_library_that_is_no_NVML_is_missing) {
  EXPECT_THROW(Nvml(std::make_unique<const Library>("NVML", std::vector<std::string>{"libc.so.6"}, ""), "0000:01:00.0"),
               LibraryMissing);
}

}  // namespace
}  // namespace triphase::cuda
