// SPDX-License-Identifier: Apache-2.0
// Which way is the fastest, by a fake GPU's exact clock.
#include "backends/cuda/tuning.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backends/cuda/status.h"
#include "fake_gpu/runtime.h"

namespace triphase::cuda {
namespace {

class Tuning : public testing::Test {
 protected:
  // Launches kernels that take so long, and counts how often it did, in a graph or not.
  Piece way(std::vector<double> each_s, int* launched = nullptr) {
    return [this, each_s = std::move(each_s), launched] {
      if (launched != nullptr) ++*launched;
      for (const double seconds : each_s) check(fake_gpu_enqueue(stream.get(), "kernel", seconds, [] {}), "kernel");
    };
  }
  size_t fastest(const std::vector<Piece>& ways) { return cuda::fastest(stream.get(), ways, "no way"); }

  Stream stream = make_stream();
};

TEST_F(Tuning, counts_what_runs_and_not_what_launching_it_takes) {
  const Piece slow_to_launch = [this] { way({fake_gpu_captures(stream.get()) ? 1e-5 : 4e-4})(); };
  EXPECT_EQ(fastest({way({2e-5}), slow_to_launch}), 1u);
  EXPECT_EQ(fastest({way({5e-6}), slow_to_launch}), 0u);
}

TEST_F(Tuning, what_loading_takes_does_not_count) {
  bool loaded = false;
  const Piece loads = [&] {
    way({loaded ? 2e-5 : 1.0})();
    loaded = true;
  };
  EXPECT_EQ(fastest({way({3e-5}), loads, way({4e-5})}), 1u);
}

TEST_F(Tuning, what_is_long_and_hopeless_is_run_no_more) {
  int slow = 0;
  EXPECT_EQ(fastest({way({0.01}), way({0.1}, &slow)}), 0u);
  EXPECT_EQ(slow, 2);  // to load, and to tell
}

TEST_F(Tuning, what_takes_long_anyway_is_timed_once) {
  int launched = 0;
  EXPECT_EQ(fastest({way({0.3}, &launched), way({0.2}, &launched)}), 1u);
  EXPECT_EQ(launched, 2 * 3);  // to load, to tell, and into a graph, which does not run
}

TEST_F(Tuning, passes_over_what_fails_however_fast) {
  int launched = 0;
  const Piece cannot_be_captured = [&] {
    if (fake_gpu_captures(stream.get())) throw VendorError("it cannot be captured");
    way({1e-9}, &launched)();
  };
  const Piece cannot_run = [] { throw VendorError("it cannot run"); };
  const Piece has_no_memory = [] { throw OutOfMemory("it has no memory"); };
  EXPECT_EQ(fastest({cannot_be_captured, has_no_memory, way({0.5}), cannot_run}), 2u);
  EXPECT_EQ(launched, 2);
}

TEST_F(Tuning, tells_why_nothing_runs) {
  const Piece cannot_run = [] { throw VendorError("it cannot run"); };
  const Piece has_no_memory = [] { throw OutOfMemory("it has no memory"); };
  const auto what = [&](const std::vector<Piece>& ways) -> std::string {
    try {
      fastest(ways);
    } catch (const OutOfMemory& full) {
      return std::string("full: ") + full.what();
    } catch (const VendorError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(what({has_no_memory, cannot_run}), "no way; the last: it cannot run");
  EXPECT_EQ(what({cannot_run, has_no_memory}), "full: no way; the last: it has no memory");
}

TEST_F(Tuning, a_lost_device_is_no_way_s_fault) {
  int launched = 0;
  const Piece loses = [] { throw DeviceLost("lost"); };
  EXPECT_THROW(fastest({loses, way({1e-3}, &launched)}), DeviceLost);
  EXPECT_EQ(launched, 0);
}

TEST_F(Tuning, leaves_nothing) {
  const fake_gpu::Living before = fake_gpu::living();
  const Piece cannot_run = [] { throw VendorError("it cannot run"); };
  fastest({way({1e-3}), cannot_run, way({1e-5})});
  EXPECT_EQ(fake_gpu::living(), before);
  EXPECT_THAT(fake_gpu::violations(), testing::IsEmpty());
}

}  // namespace
}  // namespace triphase::cuda
