// SPDX-License-Identifier: Apache-2.0
// Finding and reading JSON input: by path, or by name within a folder.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace triphase {

// The folder that holds models/ and suites/: $TRIPHASE_BENCHMARKS where set, else share/triphase beside the program's
// own where it was installed, else benchmarks/ of the source tree.
std::string benchmarks_folder();

// The file named by `name`: itself if it ends in .json, else the .json of `folder` with that stem, case-insensitive.
// Throws InputError that lists the names there are.
std::string find_json(const std::string& name, const std::string& folder, const std::string& what);

// Parses a file of at most 16 MiB, nested at most 64 deep. Throws InputError with the position of a fault.
nlohmann::json read_json(const std::string& path);

}  // namespace triphase
