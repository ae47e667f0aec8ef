// SPDX-License-Identifier: Apache-2.0
#include "bench_results.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <map>
#include <string>

#include "bin/signals.h"
#include "report/environment.h"
#include "report/format.h"

namespace triphase {

using Json = nlohmann::ordered_json;

Json results_document(const std::string& executable, const BenchFlags& flags, const Json& own,
                      const std::vector<Done>& done) {
  const benchmark::CPUInfo& cpu = benchmark::CPUInfo::Get();
  Json caches = Json::array();
  for (const auto& cache : cpu.caches) {
    caches.push_back(
        {{"type", cache.type}, {"level", cache.level}, {"size", cache.size}, {"num_sharing", cache.num_sharing}});
  }
  Json versions = {{"triphase", TRIPHASE_VERSION}};
  std::string isa = "reference";
  for (const std::string& name : flags.backends) {
    auto backend = make_backend(name);
    if (const auto* made = std::get_if<std::unique_ptr<Backend>>(&backend)) {
      for (const auto& [key, value] : (*made)->versions()) versions[key] = value;
      if (versions.contains("onednn_isa")) isa = versions["onednn_isa"].get<std::string>();
    }
  }
  Json context = {{"date", iso_time()},
                  {"host_name", benchmark::SystemInfo::Get().name},
                  {"executable", executable},
                  {"num_cpus", cpu.num_cpus},
                  {"mhz_per_cpu", static_cast<int64_t>(cpu.cycles_per_second / 1e6)},
                  {"cpu_scaling_enabled", cpu.scaling == benchmark::CPUInfo::Scaling::ENABLED},
                  {"caches", caches},
                  {"load_avg", cpu.load_avg},
                  {"library_build_type", std::string(TRIPHASE_BUILD_TYPE) == "debug" ? "debug" : "release"},
                  {"json_schema_version", 1}};
  for (const std::string& item : flags.context) {
    const size_t equals = item.find('=');
    const std::string key = item.substr(0, equals);
    if (!context.contains(key)) context[key] = item.substr(equals + 1);
  }
  context["triphase"] = {
      {"schema", 1},         {"versions", versions}, {"isa", isa}, {"threads", flags.threads}, {"affinity", affinity()},
      {"numa", numa_nodes()}};
  context["triphase"].update(own);
  if (const auto smt = simultaneous_multithreading()) context["triphase"]["smt"] = *smt;
  Json benchmarks = Json::array();
  std::map<std::string, size_t> families;  // repetitions are of one, whatever ran in between
  for (const Done& item : done) {
    for (const Json& row : item.rows) {
      benchmarks.push_back(row);
      benchmarks.back()["family_index"] =
          families.emplace(row["name"].get<std::string>(), families.size()).first->second;
      benchmarks.back()["per_family_instance_index"] = 0;
    }
  }
  return {{"context", context}, {"benchmarks", benchmarks}};
}

std::string Disturbed::mark(const Json& row) {
  ++of;
  if (!row.contains("disturbed")) return "";
  ++count;
  most_per_s = std::max(most_per_s, row.value("involuntary_switches_per_s", 0.0));
  return " *";
}

std::string Disturbed::text(const std::string& items) const {
  if (count == 0) return "";
  return "\n* The machine was busy: in " + std::to_string(count) + " of " + std::to_string(of) + " " + items +
         " other programs took a processor away, up to " + fixed(most_per_s, 0) +
         " times a second. Times with a * are not to be trusted; run again when it is idle.\n";
}

int conclude(const BenchFlags& flags, const Json& document, Journal& journal, ProgressLine& progress,
             const std::function<void()>& print_tables) {
  const auto print = [&] {
    if (flags.format == "json") {
      std::cout << document.dump(1) << "\n";
    } else {
      print_tables();
    }
  };
  try {  // before printing, as whoever reads may leave
    if (!flags.out.empty()) write_atomically(flags.out, document.dump(1) + "\n");
  } catch (const InputError& error) {
    print();
    std::cout.flush();
    std::error_code ignored;
    if (!std::filesystem::exists(journal.path(), ignored)) throw;
    throw InputError(error.what(), "what was measured is kept in " + journal.path() +
                                       "; once the file can be written, --resume goes on from it");
  }
  if (stop_signal() == 0) journal.discard();
  print();
  if (flags.format != "json" && !flags.out.empty()) std::cout << "\nresults: " << flags.out << "\n";
  std::cout.flush();
  if (stop_signal() != 0) {
    if (!journal.path().empty()) progress.note("interrupted; what was measured is kept, --resume goes on from it");
    return 128 + stop_signal();
  }
  bool failed = false;
  bool ran = false;
  for (const Json& row : document["benchmarks"]) {
    failed = failed || row["status"] == "failed";
    ran = ran || row["status"] != "skipped";
  }
  if (!ran) {
    progress.note(document["context"]["executable"].get<std::string>() + ": nothing of what was asked could run here");
    return kExitBadInput;
  }
  return failed ? kExitFailed : 0;
}

}  // namespace triphase
