// SPDX-License-Identifier: Apache-2.0
// triphase_cost: FLOP, bytes and memory of training steps: of one by layer and phase, of several in a line each. Times
// nothing, allocates nothing large.
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

#include "bin/cli.h"
#include "report/cost_report.h"

namespace triphase {
namespace {

std::string tables(const Selection& selection) {
  std::string whole;
  CostSummary summary;
  for_each_program(selection, [&](const CaseSpec&, const Network& network, const StepProgram& program) {
    if (selection.is_list()) {
      summary.add(network, program);
    } else {
      whole = cost_table(network, program);
    }
  });
  return selection.is_list() ? summary.text() : whole;
}

// An object, or a list of them where a list is asked for.
std::string json(const Selection& selection) {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for_each_program(selection, [&](const CaseSpec&, const Network& network, const StepProgram& program) {
    all.push_back(cost_json(network, program));
  });
  return (selection.is_list() ? all : all.front()).dump(2) + "\n";
}

}  // namespace
}  // namespace triphase

int main(int argc, char** argv) {
  using namespace triphase;
  CLI::App app(
      "Counts what training steps cost, in FLOP, bytes and memory: one step by layer and phase, several (by lists of "
      "batches and so on) in a line each.",
      "triphase_cost");
  Selection selection;
  std::string format = "table";
  add_selection(app, selection);
  app.add_option(
         "--format", format,
         "table for people, json for programs: an object, or a list where several steps or a suite are asked for")
      ->check(CLI::IsMember({"table", "json"}))
      ->capture_default_str();
  return guarded(app, [&] {
    parse_flags(app, argc, argv);
    if (selection.empty())
      throw InputError("flags", "--model=NAME or --suite=NAME", "neither; --model=OneNet is a start");
    const std::string text = format == "json" ? json(selection) : tables(selection);
    if (std::fputs(text.c_str(), stdout) == EOF || std::fflush(stdout) != 0) {
      throw InputError("standard output", "a file that can be written", std::strerror(errno));
    }
    return 0;
  });
}
