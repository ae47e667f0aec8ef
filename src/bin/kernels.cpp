// SPDX-License-Identifier: Apache-2.0
#include "bin/kernels.h"

#include <algorithm>
#include <map>

#include "bin/signals.h"

namespace triphase {
namespace {

// What a case runs as one call each, and why it cannot run, if so.
struct Grouping {
  std::vector<Group> groups;
  std::string cannot_run;
};

Grouping grouping(const Case& item) {
  Grouping result{{}, item.cannot_run};
  if (result.cannot_run.empty()) {
    auto backend = make_backend(item.id.backend);
    try {
      auto plan = std::get<std::unique_ptr<Backend>>(backend)->compile(*item.program, {item.id.threads});
      if (const auto* compiled = std::get_if<std::unique_ptr<Plan>>(&plan)) {
        for (const Group& group : (*compiled)->groups()) {
          if (group.traffic_bytes > 0) result.groups.push_back(group);
        }
        return result;
      }
      result.cannot_run = std::get<Unsupported>(plan).reason;
    } catch (const VendorError&) {  // each op alone then says what fails
    }
  }
  for (int op = 0; op < static_cast<int>(item.program->ops.size()); ++op) {
    if (!std::holds_alternative<Reshape>(item.program->ops[static_cast<size_t>(op)].kind)) {
      result.groups.push_back({{op}, "", 0});
    }
  }
  return result;
}

}  // namespace

std::vector<KernelCase> distinct_kernels(const std::vector<Case>& cases) {
  std::vector<KernelCase> kernels;
  std::map<std::string, size_t> position;  // by name
  for (const Case& item : cases) {
    heed_signals();
    const Grouping grouped = grouping(item);
    for (const Group& group : grouped.groups) {
      auto kernel = std::make_shared<const Kernel>(extract(*item.program, group.ops));
      KernelId id{name_of(*kernel), op_name(*kernel), std::string(to_string(kernel->phase)),
                  item.id.dtype,    item.id.backend,  item.id.threads};
      const auto [found, is_new] = position.emplace(id.name(), kernels.size());
      if (is_new) kernels.push_back({std::move(id), std::move(kernel), {}, grouped.cannot_run});
      const Op& op = item.program->ops[static_cast<size_t>(group.ops.front())];
      kernels[found->second].used_by.push_back(item.id.name() +
                                               "/layer:" + item.program->layers[static_cast<size_t>(op.layer)].name +
                                               "/" + std::string(to_string(op.phase)));
    }
  }
  return kernels;
}

}  // namespace triphase
