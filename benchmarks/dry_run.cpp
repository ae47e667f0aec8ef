// SPDX-License-Identifier: Apache-2.0
#include "dry_run.h"

#include <memory>
#include <utility>
#include <variant>

#include "bin/signals.h"

namespace triphase {
namespace {

std::vector<std::string> with_own_titles(std::vector<std::string> titles) {
  for (const char* title : {"status", "memory", "time about"}) titles.emplace_back(title);
  return titles;
}

}  // namespace

DryRun::DryRun(std::vector<std::string> titles, std::string items, const BenchFlags& flags)
    : flags_(flags),
      host_bytes_(memory_to_use(flags.max_memory)),
      items_(std::move(items)),
      table_(with_own_titles(std::move(titles))) {}

DryRun::Outlook DryRun::outlook(const StepProgram& program, const std::string& backend_name) {
  Outlook result{logical_memory(program).total, {}};
  auto made = make_backend(backend_name);
  Backend& backend = *std::get<std::unique_ptr<Backend>>(made);
  const int64_t most = memory_to_use(flags_.max_memory, backend, host_bytes_);
  may_use_[backend_name] = most;
  auto shortage = memory_shortage(program, most);
  if (!shortage) {
    auto plan = backend.compile(program, {flags_.threads});
    if (const auto* why = std::get_if<Unsupported>(&plan)) {
      result.cannot_run = why->reason;
      return result;
    }
    const MemoryPlan memory = std::get<std::unique_ptr<Plan>>(plan)->memory_plan();
    result.bytes = memory.peak_bytes();
    shortage = memory_shortage(memory, most);
  }
  result.cannot_run = shortage.value_or("");
  return result;
}

void DryRun::add(std::vector<std::string> cells, const StepProgram& program, const std::string& backend,
                 const std::string& cannot_run, double expected_s) {
  heed_signals();
  const Outlook found =
      cannot_run.empty() ? outlook(program, backend) : Outlook{logical_memory(program).total, cannot_run};
  const bool runs = found.cannot_run.empty();
  const double own_s = runs ? expected_s : 0;
  ++count_;
  runnable_ += runs;
  total_s_ += own_s;
  cells.push_back(runs ? "runs" : "skipped: " + found.cannot_run);
  cells.push_back(si(static_cast<double>(found.bytes)) + "B");
  cells.push_back(duration(own_s));
  table_.add(std::move(cells));
}

std::string DryRun::text() const {
  std::string text = table_.text() + "\n" + std::to_string(runnable_) + " of " + std::to_string(count_) + " " + items_ +
                     " would run, in about " + duration(total_s_) + " on an ordinary machine";
  for (const auto& [backend, bytes] : may_use_) {
    text += "; memory that " + backend + " may use: " + si(static_cast<double>(bytes)) + "B";
  }
  return text + "\n";
}

}  // namespace triphase
