// SPDX-License-Identifier: Apache-2.0
// The kernels of whole cases: together they are the step, none comes twice, and each computes alone what it should.
#include "bin/kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "networks.h"
#include "program/precision.h"
#include "program/totals.h"

namespace triphase {
namespace {

Case case_of(const NamedNetwork& named, int64_t batch, const std::string& optimizer, const std::string& backend,
             Precision precision = Precision::kF32) {
  Case item;
  item.id.dtype = to_string(precision);
  item.id.model = named.name;
  item.id.batch = batch;
  item.id.optimizer = optimizer;
  item.id.backend = backend;
  item.id.threads = 2;
  item.program = std::make_shared<const StepProgram>(
      with_precision(lower(network_from(named.json), batch, optimizer_named(optimizer)), precision));
  return item;
}

const std::vector<std::string>& backends() {
  static const std::vector<std::string> names = {
      "reference",
#ifdef TRIPHASE_ONEDNN
      "onednn",
#endif
  };
  return names;
}

TEST(Kernels, together_cost_what_the_step_costs) {
  for (const NamedNetwork& named : small_networks()) {
    for (const std::string& backend : backends()) {
      const Case item = case_of(named, 5, "adam", backend);
      PhaseCosts sums;
      for (const KernelCase& kernel : distinct_kernels({item})) {
        for (size_t use = 0; use < kernel.used_by.size(); ++use) sums[kernel.kernel->phase] += cost(*kernel.kernel);
      }
      EXPECT_EQ(sums, totals(*item.program).phases) << named.name << " " << backend;
    }
  }
}

TEST(Kernels, have_distinct_names_and_say_every_use) {
  std::vector<Case> cases;
  for (const NamedNetwork& named : small_networks()) {
    for (const std::string& backend : backends()) {
      for (const char* optimizer : {"sgd", "adam"}) cases.push_back(case_of(named, 5, optimizer, backend));
    }
  }
  std::set<std::string> names;
  for (const KernelCase& kernel : distinct_kernels(cases)) {
    EXPECT_TRUE(names.insert(kernel.id.name()).second) << kernel.id.name();
    EXPECT_TRUE(kernel.cannot_run.empty());
    for (const std::string& use : kernel.used_by) {
      EXPECT_NE(use.find("/backend:" + kernel.id.backend + "/layer:"), std::string::npos) << use;
      EXPECT_TRUE(use.ends_with("/" + kernel.id.phase)) << use;
    }
  }
}

TEST(Kernels, are_shared_between_optimizers_except_for_updates) {
  const NamedNetwork& mlp = small_networks()[0];
  const Case sgd = case_of(mlp, 5, "sgd", "reference");
  const auto once = distinct_kernels({sgd});
  for (const KernelCase& kernel : distinct_kernels({sgd, case_of(mlp, 5, "adam", "reference")})) {
    const auto same = std::ranges::find(once, kernel.id.name(), [](const KernelCase& k) { return k.id.name(); });
    if (kernel.kernel->phase == Phase::kUpdate) {
      const bool sgds = kernel.id.name().find("/optimizer:sgd/") != std::string::npos;
      EXPECT_EQ(same != once.end(), sgds) << kernel.id.name();
    } else {
      ASSERT_NE(same, once.end());
      EXPECT_EQ(kernel.used_by.size(), 2 * same->used_by.size());
    }
  }
}

TEST(Kernels, of_repeated_layers_are_one_with_the_layers_that_use_it) {
  const NamedNetwork named = {"twice", R"({"name": "twice", "input": {"shape": [8]}, "loss": {"kind": "mean_square"},
    "layers": [{"name": "a", "kind": "linear", "out_features": 8}, {"name": "b", "kind": "linear", "out_features": 8},
               {"name": "c", "kind": "linear", "out_features": 8}]})"};
  std::map<std::string, std::vector<std::string>> uses;
  for (const KernelCase& kernel : distinct_kernels({case_of(named, 3, "sgd", "reference")})) {
    uses[kernel.id.op + "/" + kernel.id.phase] = kernel.used_by;
  }
  const std::string base = "twice/batch:3/dtype:f32/optimizer:sgd/backend:reference/layer:";
  EXPECT_EQ(uses.at("matmul/forward"),
            (std::vector<std::string>{base + "a/forward", base + "b/forward", base + "c/forward"}));
  EXPECT_EQ(uses.at("matmul/backward_data"),
            (std::vector<std::string>{base + "c/backward_data", base + "b/backward_data"}));  // a is the first layer
  EXPECT_EQ(uses.at("matmul/backward_weights").size(), 3);
}

TEST(Kernels, of_a_case_that_cannot_run_say_why) {
  Case item = case_of(small_networks()[0], 2, "sgd", "cuda");
  item.cannot_run = "no device";
  const auto kernels = distinct_kernels({item});
  EXPECT_FALSE(kernels.empty());
  for (const KernelCase& kernel : kernels) EXPECT_EQ(kernel.cannot_run, "no device");
}

TEST(Kernels, names_do_not_depend_on_what_else_was_chosen) {
  std::set<std::string> alone;
  std::vector<Case> cases;
  for (const NamedNetwork& named : small_networks()) {
    cases.push_back(case_of(named, 4, "sgd", backends().back()));
    for (const KernelCase& kernel : distinct_kernels({cases.back()})) alone.insert(kernel.id.name());
  }
  std::set<std::string> together;
  for (const KernelCase& kernel : distinct_kernels(cases)) together.insert(kernel.id.name());
  EXPECT_EQ(together, alone);
}

// Every kernel of every small network, alone: each element of each output against float64, hot and cold.
class KernelsAlone : public testing::TestWithParam<std::string> {};

TEST_P(KernelsAlone, compute_what_float64_does) {
  MeasureOptions options;
  options.threads = 2;
  options.verify = VerifyMode::kFull;
  options.max_memory_bytes = 1 << 30;
  options.sampling.budget_s = 1e-6;
  const std::vector<Cache> caches = {Cache::kHot, Cache::kCold};
  std::vector<Case> cases;
  for (const NamedNetwork& named : small_networks()) {
    for (const char* optimizer : {"sgd", "adam"}) cases.push_back(case_of(named, 5, optimizer, GetParam()));
  }
  for (const std::string& optimizer : optimizer_names()) {
    cases.push_back(case_of(small_networks()[0], 2, optimizer, GetParam()));
  }
  auto backend = std::get<std::unique_ptr<Backend>>(make_backend(GetParam()));
  const Case mixed = case_of(small_networks()[0], 2, "sgd", GetParam(), Precision::kBF16);
  if (std::holds_alternative<std::unique_ptr<Plan>>(backend->compile(*mixed.program, {.threads = 2}))) {
    for (const NamedNetwork& named : small_networks()) {
      cases.push_back(case_of(named, 5, "adam", GetParam(), Precision::kBF16));
    }
  }
  std::set<size_t> kinds;
  for (const KernelCase& item : distinct_kernels(cases)) {
    const auto go_on = [](std::string_view, const Samples*) { return true; };
    PreparedKernel prepared = prepare(*item.kernel, *backend, options, go_on);
    const auto results = measure(*item.kernel, prepared, options, caches, go_on);
    ASSERT_EQ(results.size(), 2);
    for (const KernelMeasurement& result : results) {
      EXPECT_EQ(to_string(result.measured.status), "ok") << item.id.name() << ": " << result.measured.reason;
      EXPECT_EQ(result.measured.verification.ops_unchecked, 0) << item.id.name();
      EXPECT_LE(result.measured.verification.max_error_over_bound, 1);
      EXPECT_GE(result.measured.samples.step_s.size(), options.sampling.min_samples) << item.id.name();
    }
    for (const Op& op : item.kernel->program.ops) {
      if (op.phase == item.kernel->phase) kinds.insert(op.kind.index());
    }
  }
  kinds.insert(OpKind(Reshape{}).index());  // on one backend a view, on the other one where layouts agree
  kinds.insert(OpKind(Convert{}).index());  // not every processor computes in bf16
  EXPECT_EQ(kinds.size(), std::variant_size_v<OpKind>) << "every kind of op has run alone";
}

INSTANTIATE_TEST_SUITE_P(, KernelsAlone, testing::ValuesIn(backends()),
                         [](const auto& backend) { return backend.param; });

TEST(Plans, eviction_loses_nothing) {
  for (const std::string& name : backends()) {
    const StepProgram program = lower(network_from(small_networks()[3].json), 3, Sgd{});
    auto backend = std::get<std::unique_ptr<Backend>>(make_backend(name));
    const auto plan = std::get<std::unique_ptr<Plan>>(backend->compile(program, {.threads = 2}));
    plan->allocate(7);
    std::vector<double> stamps_s;
    plan->run_step(Marks::kNone, stamps_s);
    const auto contents = [&] {
      std::vector<double> values;
      for (TensorId id = 0; id < static_cast<TensorId>(program.tensors.size()); ++id) {
        if (!plan->materialised(id) || program.tensor(id).producer >= 0) continue;  // the others share memory
        const int64_t count = element_count(program.tensor(id).type.shape);
        for (int64_t i = 0; i < count; ++i) values.push_back(plan->read(id, i));
      }
      return values;
    };
    const std::vector<double> before = contents();
    ASSERT_FALSE(before.empty());
    EXPECT_TRUE(plan->evict());
    EXPECT_EQ(contents(), before) << name;
  }
}

}  // namespace
}  // namespace triphase
