// SPDX-License-Identifier: Apache-2.0
#include "bin/cases.h"

#include <algorithm>
#include <map>
#include <regex>

#include "backends/reference/reference.h"
#include "core/error.h"
#include "report/environment.h"
#ifdef TRIPHASE_ONEDNN
#include "backends/onednn/onednn.h"
#endif
#ifdef TRIPHASE_CUDA
#include "backends/cuda/cuda.h"
#endif

namespace triphase {
namespace {

// What a step runs at, and what else a case takes: of an ordinary two-core machine, or of a GPU of a data centre.
struct Pace {
  double flop_per_s, bytes_per_s;
  double setup_s;
};

// Setting up, verifying, and at least as many steps as are taken beyond the time for a case.
double guess_s(const StepProgram& program, const std::string& backend, double time_per_case_s) {
  constexpr double kFillBytesPerSecond = 4e8;
  constexpr double kSteps = 16;
  const Pace pace = backend == "cuda" ? Pace{2e13, 1e12, 2} : Pace{1.5e11, 2e10, 0.5};
  Cost sum;
  for (const auto& [phase, cost] : totals(program).phases) sum += cost;
  const double step_s =
      static_cast<double>(sum.flop) / pace.flop_per_s + static_cast<double>(sum.traffic_bytes) / pace.bytes_per_s;
  const double fill_s = static_cast<double>(logical_memory(program).parameters) / kFillBytesPerSecond;
  return pace.setup_s + 2 * fill_s + 4 * step_s + std::max(time_per_case_s, kSteps * step_s);
}

}  // namespace

std::variant<std::unique_ptr<Backend>, Unsupported> make_backend(const std::string& name) {
  if (name == "reference") return make_reference_backend();
  if (name == "onednn") {
#ifdef TRIPHASE_ONEDNN
    return make_onednn_backend();
#else
    return Unsupported{"this build has no oneDNN backend (scripts/setup installs oneDNN; then configure anew)"};
#endif
  }
  if (name == "cuda") {
#ifdef TRIPHASE_CUDA
    return make_cuda_backend();
#else
    return Unsupported{"this build has no CUDA backend (install the CUDA Toolkit, with nvcc; then configure anew)"};
#endif
  }
  throw InputError("--backend", "onednn, cuda or reference", "'" + name + "'");
}

std::vector<Case> select_cases(const Selection& selection, const std::vector<std::string>& backends, int threads,
                               double time_per_case_s) {
  std::map<std::string, std::string> unsupported_backends;
  std::map<std::string, int> threads_of;
  for (const std::string& backend : backends) {
    const auto made = make_backend(backend);
    threads_of[backend] = threads;
    if (const auto* why = std::get_if<Unsupported>(&made)) {
      unsupported_backends[backend] = why->reason;
    } else {
      threads_of[backend] = std::get<std::unique_ptr<Backend>>(made)->computing_threads(threads);
    }
  }
  std::vector<Case> cases;
  std::map<std::string, uint64_t> network_of;  // by the name of the case
  for_each_program(selection, [&](const CaseSpec& spec, const Network& network, StepProgram lowered) {
    const auto program = std::make_shared<const StepProgram>(std::move(lowered));
    for (const std::string& backend : backends) {
      Case item;
      item.id = {network.spec,   network.name, network.parameters,  spec.batch,         spec.dtype,
                 spec.optimizer, backend,      threads_of[backend], program->loss_scale};
      item.network = network.fingerprint;
      const auto [known, is_new] = network_of.emplace(item.id.name(), item.network);
      if (known->second != item.network) {
        throw InputError(spec.model.name, "a network of another name than those before it",
                         "a second one that is named " + network.spec);
      }
      if (!is_new) continue;  // a backend that was named twice
      item.program = program;
      item.expected_s = guess_s(*program, backend, time_per_case_s);
      if (unsupported_backends.contains(backend)) {
        item.cannot_run = unsupported_backends[backend];
        item.expected_s = 0;
      }
      cases.push_back(std::move(item));
    }
  });
  return cases;
}

int64_t parse_bytes(const std::string& text) {
  constexpr size_t kLongest = 40;  // std::regex recurses by character
  static const std::regex form("([0-9]+(?:\\.[0-9]+)?)\\s*(|B|k|M|G|T|kB|MB|GB|TB|KiB|MiB|GiB|TiB)");
  std::smatch match;
  static const std::map<std::string, double> units = {{"", 1},
                                                      {"B", 1},
                                                      {"k", 1e3},
                                                      {"M", 1e6},
                                                      {"G", 1e9},
                                                      {"T", 1e12},
                                                      {"kB", 1e3},
                                                      {"MB", 1e6},
                                                      {"GB", 1e9},
                                                      {"TB", 1e12},
                                                      {"KiB", 1024.0},
                                                      {"MiB", 1048576.0},
                                                      {"GiB", 1073741824.0},
                                                      {"TiB", 1099511627776.0}};
  if (text.size() > kLongest || !std::regex_match(text, match, form))
    throw InputError("--max_memory", "a size such as 8GiB or 500MB", "'" + text + "'");
  const double value = std::stod(match[1]) * units.at(match[2]);
  if (!(value >= 1 && value < 9e18)) throw InputError("--max_memory", "a size from 1 byte to 9 EB", "'" + text + "'");
  return static_cast<int64_t>(value);
}

int64_t memory_to_use(const std::string& max_memory) {
  return max_memory.empty() ? available_memory_bytes() / 10 * 9 : parse_bytes(max_memory);
}

int64_t memory_to_use(const std::string& max_memory, const Backend& backend, int64_t host_bytes) {
  const auto own = backend.free_bytes();
  return own && max_memory.empty() ? *own / 10 * 9 : host_bytes;
}

}  // namespace triphase
