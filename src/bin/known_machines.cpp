// SPDX-License-Identifier: Apache-2.0
#include "bin/known_machines.h"

#include <algorithm>
#include <utility>

#include "bin/cases.h"
#include "core/error.h"
#include "measure/process_usage.h"
#include "report/environment.h"
#include "report/format.h"
#include "report/journal.h"

namespace triphase {

using Json = nlohmann::ordered_json;

namespace {

constexpr double kClearly = 1.05;  // of the ceiling: less may be the gauge's noise

int64_t memory_bytes(const Backend& backend) { return backend.free_bytes().value_or(available_memory_bytes()); }

}  // namespace

KnownMachines::KnownMachines(const std::string& choice, const std::vector<std::string>& backends, int host_threads,
                             std::vector<std::string>& notes) {
  if (choice == "off") return;
  bool of_another = false;
  for (const std::string& name : backends) {
    auto made = make_backend(name);
    auto* backend = std::get_if<std::unique_ptr<Backend>>(&made);
    if (backend == nullptr) continue;
    const int threads = (*backend)->computing_threads(host_threads);
    if ((*backend)->probes(threads).empty()) continue;
    const std::string fingerprint = machine_fingerprint(**backend);
    const std::string flags = (name == "onednn" ? "" : " --backend=" + name) +
                              (host_threads == usable_cpus() ? "" : " --threads=" + std::to_string(threads)) +
                              (choice == "auto" ? "" : " --out=" + choice);
    Entry entry;
    entry.path = choice == "auto" ? ceilings_path(fingerprint, name, threads) : choice;
    std::optional<KnownMachine> known;
    try {
      known = read_ceilings(entry.path);
    } catch (const InputError& error) {
      if (choice != "auto") throw;
      notes.push_back("the ceilings that were kept cannot be read, so times are set against none: " +
                      std::string(error.what()) + "; run triphase_ceilings --remeasure" + flags);
      continue;
    }
    if (known && choice != "auto" && known->backend != name && backends.size() > 1) {
      of_another = true;
      continue;
    }
    if (!known) {
      if (choice != "auto")
        throw InputError("--ceilings", "auto, off or a file of triphase_ceilings", "'" + choice + "'");
      notes.push_back("no ceilings are known for this machine, so times are set against none: run triphase_ceilings" +
                      flags);
      continue;
    }
    if (known->fingerprint != fingerprint || known->threads != threads || known->backend != name) {
      throw InputError(entry.path,
                       "ceilings of this machine for " + name + " on " + std::to_string(threads) +
                           " threads (triphase_ceilings measures them)",
                       "those of another machine or version, for " + known->backend + " on " +
                           std::to_string(known->threads) + " threads");
    }
    for (const std::string& doubt : doubts(*known)) {
      notes.push_back("the ceilings are not to be trusted, as " + doubt + " while they were measured: run " +
                      "triphase_ceilings --remeasure" + flags + " when the machine is idle");
    }
    entry.known = std::move(*known);
    entry.gauge = Gauge::make(**backend, threads, memory_bytes(**backend) / kGaugeShare);
    entries_.emplace(name, std::move(entry));
  }
  if (of_another && entries_.empty()) {
    throw InputError("--ceilings", "ceilings of one of the backends that run here", "'" + choice + "', of another");
  }
}

const Gauge* KnownMachines::gauge(const std::string& backend) const {
  const auto found = entries_.find(backend);
  return found == entries_.end() || !found->second.gauge ? nullptr : &*found->second.gauge;
}

Expectation KnownMachines::expectation(const std::string& backend, const StepProgram& program,
                                       const Measurement& measured) const {
  const auto found = entries_.find(backend);
  if (found == entries_.end()) return {};
  const KnownMachine& known = found->second.known;
  const Machine machine = known.machine(measured);
  auto needed = demands(program, measured.groups, measured.extents, machine);
  if (!needed) return {};
  const double peak_flop_per_s = *machine.flop_per_s("gemm", std::string(to_string(program.precision)));
  return {std::move(*needed), known.factors, peak_flop_per_s, known.speed(measured)};
}

const Json* KnownMachines::above_ceiling(const std::vector<Json>& rows) {
  const auto excess = [](const Json& row) { return row.value("above_ceiling", 0.0); };
  const auto most = std::ranges::max_element(rows, {}, excess);
  return most != rows.end() && excess(*most) > kClearly ? &*most : nullptr;
}

std::string KnownMachines::remeasure(const std::string& backend, const Json& because) {
  Entry& entry = entries_.at(backend);
  if (std::exchange(entry.tried_again, true)) return "";
  const double excess = because["above_ceiling"].get<double>();
  std::string text = because["name"].get<std::string>() + " ran at " + fixed(100 * excess, 0) + " % of its ceiling (" +
                     because["bound"].get<std::string>() + "). Ceilings measured again:";
  std::vector<Ceiling> again;
  const ProcessUsage usage;
  try {
    auto made = make_backend(backend);
    if (const auto* why = std::get_if<Unsupported>(&made)) return text + " not, " + why->reason;
    Backend& device = *std::get<std::unique_ptr<Backend>>(made);
    again = measure_ceilings(device, entry.known.threads, memory_bytes(device) / 2, {3, 0.05}, {});
    if (device.on_host() && usage.disturbed()) {
      return text + " not kept, as the machine is busy";
    }
  } catch (const std::exception& error) {  // the row stands without
    return text + " not, " + error.what();
  }
  Remeasured result{iso_time(), because["name"].get<std::string>(), excess, {}};
  for (const auto& [was, is] : raise_ceilings(entry.known.ceilings, again)) {
    result.risen.push_back({name_of(was), was.value, is.value});
    const auto text_of = [](const Ceiling& c) { return c.latency ? duration(c.value) : si(c.value); };
    text += " " + name_of(was) + " " + text_of(was) + " to " + text_of(is) + ";";
  }
  const bool risen = !result.risen.empty();
  entry.known.remeasured = std::move(result);
  if (!risen) return text + " none is higher now, so where its bytes come from is misjudged";
  text.back() = '.';
  try {
    write_atomically(entry.path, to_json(entry.known).dump(1) + "\n");
  } catch (const std::exception& error) {  // they serve this run all the same
    text += std::string(" Not kept: ") + error.what();
  }
  return text;
}

Json KnownMachines::measured_at() const {
  Json json = Json::object();
  for (const auto& [name, entry] : entries_) json[name] = entry.known.measured_at;
  return json;
}

Json KnownMachines::record() const {
  Json json = Json::object();
  for (const auto& [name, entry] : entries_) {
    json[name] = to_json(entry.known);
  }
  return json;
}

}  // namespace triphase
