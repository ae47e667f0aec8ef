// SPDX-License-Identifier: Apache-2.0
// What is missing is told in one line: what was looked for, why it cannot be used, and what to do.
#include "backends/cuda/library.h"

#include <gtest/gtest.h>

namespace triphase::cuda {
namespace {

std::string refusal(const std::vector<std::string>& names) {
  try {
    const Library library("Fakes", names, "install them");
  } catch (const LibraryMissing& missing) {
    return missing.what();
  }
  return "loaded";
}

TEST(Library, the_first_name_that_loads_is_taken) {
  EXPECT_EQ(refusal({FAKE_NVML}), "loaded");
  EXPECT_EQ(refusal({"libtriphase_absent.so.9", FAKE_NVML}), "loaded");
}

TEST(Library, of_cuda_that_of_the_build_is_tried_first) {
  const std::vector<std::string> of_12 = {"libx.so.12", "libx.so.13", "libx.so"};
  const std::vector<std::string> of_13 = {"libx.so.13", "libx.so.12", "libx.so"};
  EXPECT_EQ(names_by_cuda("libx.so", 12), of_12);
  EXPECT_EQ(names_by_cuda("libx.so", 13), of_13);
}

TEST(Library, a_missing_file_is_told_in_one_line) {
  EXPECT_EQ(refusal({"libtriphase_absent.so.9"}),
            "Fakes cannot be loaded as libtriphase_absent.so.9 (libtriphase_absent.so.9: cannot open shared object "
            "file: No such file or directory): install them");
  EXPECT_EQ(refusal({"libtriphase_absent.so.9", "libtriphase_absent.so"}),
            "Fakes cannot be loaded as libtriphase_absent.so.9 or libtriphase_absent.so (libtriphase_absent.so.9: "
            "cannot open shared object file: No such file or directory): install them");
}

TEST(Library, symbols_are_found_by_name) {
  const Library library("Fakes", {FAKE_NVML}, "install them");
  EXPECT_NE(library.handle(), nullptr);
  EXPECT_EQ(library.symbol<int()>("fake_nvml_sessions")(), 0);
}

TEST(Library, a_missing_symbol_is_told_in_one_line) {
  const Library library("Fakes", {"libtriphase_absent.so", FAKE_NVML}, "install them");
  try {
    library.symbol<int()>("nvmlNoSuchFunction");
    FAIL() << "found";
  } catch (const LibraryMissing& missing) {
    EXPECT_EQ(missing.what(),
              std::string("Fakes was loaded as " FAKE_NVML ", which is too old or of another version (" FAKE_NVML
                          ": undefined symbol: nvmlNoSuchFunction): install them"));
  }
}

}  // namespace
}  // namespace triphase::cuda
