// SPDX-License-Identifier: Apache-2.0
// The GPU's plans on a host that stands in for a GPU: everything but the launching itself.
#include "backends/cuda/plan.h"

#include <gmock/gmock.h>

#include <cmath>
#include <set>

#include "backends/cuda/host_device.h"
#include "backends/expectations.h"
#include "backends/reference/reference.h"
#include "core/clock.h"
#include "measure/kernel_source.h"
#include "program/kernel.h"

namespace triphase {
namespace {

using cuda::CudaPlan;
using cuda::HostDevice;
using testing::Contains;
using testing::Each;
using testing::ElementsAre;

class StandIn : public Backend {
 public:
  explicit StandIn(HostDevice::Abilities abilities = {}) : device(std::make_shared<HostDevice>(abilities)) {}
  std::string name() const override { return "cuda"; }
  std::vector<std::pair<std::string, std::string>> versions() const override { return {}; }
  std::variant<std::unique_ptr<Plan>, Unsupported> compile(const StepProgram& program,
                                                           const CompileOptions& options) override {
    return std::make_unique<CudaPlan>(program, device, options.formulation);
  }

  std::shared_ptr<HostDevice> device;
};

StepProgram program_of(const std::string& name, int64_t batch = 4, const Optimizer& optimizer = Sgd{}) {
  for (const NamedNetwork& named : small_networks()) {
    if (named.name == name) return lower(network_from(named.json), batch, optimizer);
  }
  throw std::logic_error("no network " + name);
}

std::vector<std::string> implementations(const Plan& plan) {
  std::vector<std::string> names;
  for (const Group& group : plan.groups()) names.push_back(group.implementation.name);
  return names;
}

constexpr Precision kFasterPrecisions[] = {Precision::kTF32, Precision::kBF16, Precision::kF16};

class CudaPlans : public testing::TestWithParam<NamedNetwork> {};

TEST_P(CudaPlans, agree_with_float64) {
  StandIn backend;
  expect_verified(backend, GetParam());
}

TEST_P(CudaPlans, agree_with_float64_where_calls_have_no_epilogues) {
  StandIn backend({.bias_gradients = false, .epilogues = false});
  expect_verified(backend, GetParam());
  expect_verified(backend, GetParam(), Precision::kBF16);
}

TEST_P(CudaPlans, agree_with_float64_counting_in_64_bits) {
  StandIn backend({.wide_counts = true});
  expect_verified(backend, GetParam());
  expect_verified(backend, GetParam(), Precision::kBF16);
}

TEST_P(CudaPlans, copies_follow_their_parameters) {
  StandIn backend;
  for (const Precision precision : {Precision::kBF16, Precision::kF16}) {
    expect_copies_follow(backend, GetParam(), precision);
  }
}

TEST_P(CudaPlans, agree_with_float64_in_every_precision) {
  StandIn backend;
  for (const Precision precision : kFasterPrecisions) expect_verified(backend, GetParam(), precision);
}

TEST_P(CudaPlans, losses_of_ten_steps_are_the_references) {
  StandIn backend;
  expect_losses_of_the_reference(backend, GetParam());
  for (const Precision precision : kFasterPrecisions) expect_losses_of_the_reference(backend, GetParam(), precision);
}

class CudaKernels : public testing::TestWithParam<std::tuple<NamedNetwork, Precision>> {};

TEST_P(CudaKernels, alone_agree_with_float64) {
  StandIn backend;
  const auto& [named, precision] = GetParam();
  const StepProgram program = with_precision(lower(network_from(named.json), 4, Adam{}), precision);
  const auto whole = compiled(backend, program);
  for (const Group& group : whole->groups()) {
    if (group.implementation.name == "view") continue;
    const Kernel kernel = extract(program, group.ops);
    const auto plan = compiled(backend, kernel.program);
    plan->allocate(3);
    EXPECT_EQ(verify(kernel.program, *plan, VerifyMode::kFull, 3).failure, "") << name_of(kernel);
    KernelSource source(kernel, *plan, Cache::kCold);
    std::vector<double> stamps_s;
    source.run_step(Marks::kPhases, stamps_s);
    EXPECT_LE(stamps_s[0], stamps_s[1]);
  }
}

TEST_P(CudaPlans, allocate_what_they_planned_and_release_it) {
  StandIn backend;
  const StepProgram program = lower(network_from(GetParam().json), 4, Adam{});
  {
    const auto plan = compiled(backend, program);
    EXPECT_EQ(backend.device->allocated_bytes(), 0);
    plan->allocate(3);
    EXPECT_EQ(backend.device->allocated_bytes(), plan->memory_plan().peak_bytes());
  }
  EXPECT_EQ(backend.device->allocated_bytes(), 0);
}

TEST_P(CudaPlans, keep_what_is_still_to_be_read) {
  for (const bool epilogues : {true, false}) {
    StandIn backend({.epilogues = epilogues});
    for (const Precision precision : {Precision::kF32, Precision::kF16}) {
      const StepProgram program = with_precision(lower(network_from(GetParam().json), 4, Adam{}), precision);
      expect_operands_are_kept(program, *compiled(backend, program));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Small, CudaKernels,
                         testing::Combine(testing::ValuesIn(small_networks()),
                                          testing::Values(Precision::kF32, Precision::kBF16)),
                         [](const auto& test) {
                           return std::get<0>(test.param).name + "_" + std::string(to_string(std::get<1>(test.param)));
                         });

INSTANTIATE_TEST_SUITE_P(Small, CudaPlans, testing::ValuesIn(small_networks()),
                         [](const auto& test) { return test.param.name; });

TEST(CudaPlan, flattening_the_input_takes_no_copy_and_of_an_image_one_that_lies_channels_last) {
  StandIn backend;
  const auto reshape_of = [&](const char* first, Precision precision) {
    const StepProgram program = with_precision(
        lower(network_from(std::string(R"({"name": "n", "input": {"shape": [3, 4, 5]}, "loss": {"kind": "mean_square"},
          "layers": [)") + first +
                           R"({"name": "flatten", "kind": "flatten"},
                     {"name": "fc", "kind": "linear", "out_features": 2}]})"),
              4, Sgd{}),
        precision);
    const auto plan = compiled(backend, program);
    plan->allocate(3);
    EXPECT_EQ(verify(program, *plan, VerifyMode::kFull, 3).failure, "");
    for (const Group& group : plan->groups()) {
      if (std::holds_alternative<Reshape>(program.ops[static_cast<size_t>(group.ops[0])].kind)) {
        return group.implementation.name;
      }
    }
    return std::string("none");
  };
  const char* pool = R"({"name": "pool", "kind": "avg_pool2d", "kernel": 2},)";
  EXPECT_EQ(reshape_of("", Precision::kBF16), "view");
  EXPECT_EQ(reshape_of("", Precision::kF32), "view");
  EXPECT_EQ(reshape_of(pool, Precision::kBF16), "kernel:reshape");
  EXPECT_EQ(reshape_of(pool, Precision::kF32), "view");
}

TEST(CudaPlan, biases_and_relus_run_within_products_and_small_updates_together) {
  StandIn backend;
  const StepProgram program = program_of("mlp");
  const auto plan = compiled(backend, program);
  plan->allocate(3);
  const std::vector<std::string> names = implementations(*plan);
  for (const char* fused : {"kernel:add_bias", "kernel:relu", "kernel:bias_gradient"}) {
    EXPECT_EQ(std::ranges::count(names, fused), 0) << fused;
  }
  EXPECT_EQ(std::ranges::count(names, "kernel:sgd"), 1);
  size_t updates = 0;
  for (const Op& op : program.ops) updates += std::holds_alternative<Update>(op.kind);
  EXPECT_EQ(plan->groups().back().ops.size(), updates);
  EXPECT_GT(updates, 3);
}

TEST(CudaPlan, biases_and_relus_run_within_convolutions) {
  StandIn backend;
  const StepProgram program = program_of("pool_of_relu");
  const auto plan = compiled(backend, program);
  plan->allocate(3);
  const Group& first = plan->groups().front();
  EXPECT_EQ(first.implementation.name, "host:tuned");
  ASSERT_EQ(first.ops.size(), 3);
  EXPECT_TRUE(std::holds_alternative<Conv2d>(program.ops[static_cast<size_t>(first.ops[0])].kind));
  EXPECT_TRUE(std::holds_alternative<AddBias>(program.ops[static_cast<size_t>(first.ops[1])].kind));
  EXPECT_TRUE(std::holds_alternative<Relu>(program.ops[static_cast<size_t>(first.ops[2])].kind));
}

// And the traffic is that of what was chosen.
TEST(CudaPlan, an_epilogue_that_is_slower_than_own_kernels_is_not_taken) {
  for (const char* network : {"mlp", "pool_of_relu"}) {
    const StepProgram program = program_of(network);
    StandIn fast;
    StandIn slow({.slow_epilogues = true});
    const auto with = compiled(fast, program);
    const auto without = compiled(slow, program);
    with->allocate(3);
    without->allocate(3);
    const Group& fused = with->groups().front();
    const Group& own = without->groups().front();
    EXPECT_EQ(own.ops, fused.ops);
    EXPECT_EQ(fused.implementation.name, "host:tuned");
    EXPECT_EQ(own.implementation.name, "host:tuned+kernel:add_bias+relu");
    const TensorId y = program.ops[static_cast<size_t>(own.ops.back())].outputs[0];
    EXPECT_EQ(own.traffic_bytes, fused.traffic_bytes + 2 * size_in_bytes(program.tensor(y).type)) << "read and written";
  }
}

TEST(CudaPlan, each_formulation_can_be_asked_for) {
  StandIn backend;
  const StepProgram program = program_of("pool_of_relu");
  std::set<std::string> names;
  for (const size_t formulation : {size_t{0}, size_t{1}, size_t{2}}) {
    const auto plan = compiled(backend, program, formulation);
    plan->allocate(3);
    names.insert(plan->groups().front().implementation.name);
    EXPECT_EQ(verify(program, *plan, VerifyMode::kFull, 3).failure, "") << formulation;
  }
  EXPECT_THAT(names, testing::UnorderedElementsAre("host:tuned", "host:tuned+kernel:add_bias+relu"));
}

TEST(HostDevice, refuses_to_record_a_kernel_that_was_never_launched) {
  HostDevice device;
  std::vector<float> x(4);
  const cuda::Piece piece = [&] { device.launch(cuda::kernels::Relu<float>{x.data(), x.data()}, 4); };
  std::vector<double> stamps_s;
  EXPECT_THROW(device.record({piece}, /*captured=*/true)->run(stamps_s), std::logic_error);
}

TEST(CudaPlan, copies_are_written_by_their_parameters_updates_and_gradients_of_two_types_are_updated_apart) {
  StandIn backend;
  const StepProgram program = with_precision(program_of("residual"), Precision::kBF16);
  const auto plan = compiled(backend, program);
  std::vector<std::multiset<std::string>> updates;  // by group, the ops' names
  for (const Group& group : plan->groups()) {
    if (group.implementation.name != "kernel:sgd") continue;
    updates.emplace_back();
    for (const int op : group.ops) {
      updates.back().emplace(name_of(program.ops[static_cast<size_t>(op)].kind));
    }
  }
  ASSERT_EQ(updates.size(), 2);
  EXPECT_EQ(updates[0].count("update") + updates[1].count("update"), 11);
  const auto& narrow = updates[updates[0].contains("convert") ? 0 : 1];
  const auto& wide = updates[updates[0].contains("convert") ? 1 : 0];
  EXPECT_EQ(narrow.count("update"), 5) << "three convolutions, a linear layer's weights and bias";
  EXPECT_EQ(narrow.count("convert"), 5);
  EXPECT_EQ(wide.count("update"), 6) << "gamma and beta of three normalisations";
  EXPECT_EQ(wide.count("convert"), 0);
}

// Of a mean over 2^20 results: around 2^-19, where f16 keeps five bits or fewer.
TEST(CudaPlan, a_scaled_loss_keeps_what_f16_would_lose_of_small_gradients) {
  const Network network = network_from(R"({"name": "wide", "input": {"shape": [2]}, "loss": {"kind": "mean_square"},
                                           "layers": [{"name": "fc", "kind": "linear", "out_features": 64}]})");
  const auto relative_error = [&](std::optional<double> loss_scale) {
    const StepProgram program = with_precision(lower(network, 16384, Sgd{}), Precision::kF16, loss_scale);
    StandIn backend;
    const auto plan = compiled(backend, program);
    const auto reference = compiled(*make_reference_backend(), program);  // keeps the results of each op
    std::vector<double> stamps;
    for (Plan* one : {plan.get(), reference.get()}) {
      one->allocate(3);
      one->run_step(Marks::kNone, stamps);
    }
    double difference = 0;
    double size = 0;
    for (const Op& op : program.ops) {
      if (!std::holds_alternative<MeanSquareBackward>(op.kind)) continue;
      const int64_t count = element_count(program.tensor(op.inputs[0]).type.shape);
      for (int64_t i = 0; i < count; i += 97) {
        const double exact = 2 * reference->read(op.inputs[0], i) / static_cast<double>(count);
        difference += std::abs(plan->read(op.outputs[0], i) / program.loss_scale - exact);
        size += std::abs(exact);
      }
    }
    return difference / size;
  };
  EXPECT_GT(relative_error(1), 0x1p-8) << "as without a scale";
  EXPECT_LT(relative_error({}), 0x1p-10) << "a rounding of f16 here and one of the result there";
}

TEST(CudaPlan, a_gradient_that_overflows_in_f16_fails_and_says_what_to_change) {
  StandIn backend;
  const StepProgram program = with_precision(program_of("mlp"), Precision::kF16, 0x1p24);
  const auto plan = compiled(backend, program);
  plan->allocate(3);
  EXPECT_THAT(verify(program, *plan, VerifyMode::kFull, 3).failure,
              testing::AllOf(testing::HasSubstr("f16 ends at 65504"), testing::HasSubstr("a smaller --loss_scale")));
}

TEST(CudaPlan, a_bias_gradient_that_no_product_has_runs_after_it) {
  StandIn backend({.bias_gradients = false});
  const StepProgram program = program_of("mlp");
  const auto plan = compiled(backend, program);
  plan->allocate(3);
  EXPECT_THAT(implementations(*plan), Contains("host:tuned+kernel:bias_gradient"));
}

TEST(CudaPlan, parameters_above_a_million_are_updated_alone) {
  const StepProgram program = lower(network_from(R"({"name": "wide", "input": {"shape": [1048577]},
    "loss": {"kind": "mean_square"}, "layers": [
      {"name": "fc1", "kind": "linear", "out_features": 1}, {"name": "fc2", "kind": "linear", "out_features": 2}]})"),
                                    1, Sgd{});
  StandIn backend;
  const auto plan = compiled(backend, program);
  std::vector<size_t> updated;
  for (const Group& group : plan->groups()) {
    if (group.implementation.name == "kernel:sgd") updated.push_back(group.ops.size());
  }
  EXPECT_THAT(updated, ElementsAre(1, 3));
}

TEST(CudaPlan, convolutions_without_a_library_are_unsupported_and_the_reason_says_so) {
  StandIn backend({.convolutions = false});
  EXPECT_NO_THROW(compiled(backend, program_of("mlp")));
  EXPECT_THROW(compiled(backend, program_of("convnet")), Unimplemented);
}

TEST(CudaPlan, memory_that_is_refused_is_given_back) {
  StandIn backend({.memory_bytes = 1000});
  const StepProgram program = program_of("mlp");
  {
    const auto plan = compiled(backend, program);
    EXPECT_THROW(plan->allocate(3), OutOfMemory);
  }
  EXPECT_EQ(backend.device->allocated_bytes(), 0);
}

TEST(CudaPlan, a_step_is_recorded_once_for_each_level_of_marks) {
  StandIn backend;
  const StepProgram program = program_of("convnet");
  const auto plan = compiled(backend, program, 0);  // so that none is recorded to choose
  plan->allocate(3);
  EXPECT_EQ(backend.device->counts().recordings, 0);
  for (int i = 0; i < 3; ++i) {
    for (const Marks marks : {Marks::kNone, Marks::kPhases, Marks::kLayers}) {
      std::vector<double> stamps_s;
      plan->run_step(marks, stamps_s);
      EXPECT_EQ(stamps_s.size(), plan->segments(marks).size() + 1);
      EXPECT_TRUE(std::ranges::is_sorted(stamps_s));
    }
  }
  EXPECT_EQ(backend.device->counts().recordings, 3);
}

TEST(CudaPlan, the_loss_of_a_small_batch_takes_one_launch) {
  for (const auto& [batch, launches] : {std::pair{256, 1}, std::pair{257, 3}}) {
    StandIn backend;
    const StepProgram program = program_of("mlp", batch);
    const auto plan = compiled(backend, program, 0);
    plan->allocate(3);
    int64_t before = 0;
    int64_t found = 0;
    const auto count = [&] { return backend.device->counts().launches; };
    plan->run_observed([&](int) { before = count(); },
                       [&](int group) {
                         const auto& of_group = plan->groups()[static_cast<size_t>(group)];
                         if (of_group.implementation.name == "kernel:softmax_cross_entropy") found = count() - before;
                       });
    EXPECT_EQ(found, launches) << batch;
  }
}

TEST(CudaPlan, what_a_step_takes_beside_its_intervals_counts_against_the_time) {
  StandIn backend;
  const StepProgram program = program_of("mlp");
  const auto plan = compiled(backend, program, 0);
  plan->allocate(3);
  const double begin_s = now_s();
  double timed_s = 0;
  double untimed_s = plan->untimed_s();
  for (int i = 0; i < 5; ++i) {
    std::vector<double> stamps_s;
    plan->run_step(Marks::kPhases, stamps_s);
    timed_s += stamps_s.back() - stamps_s.front();
    EXPECT_GT(plan->untimed_s(), untimed_s);
    untimed_s = plan->untimed_s();
  }
  EXPECT_LE(timed_s + untimed_s, now_s() - begin_s);
}

TEST(CudaPlan, a_launched_step_is_a_step) {
  StandIn backend;
  const StepProgram program = program_of("mlp");
  const auto launched = compiled(backend, program);
  const auto replayed = compiled(backend, program);
  launched->allocate(3);
  replayed->allocate(3);
  std::vector<double> stamps_s;
  for (int i = 0; i < 3; ++i) {
    EXPECT_GE(launched->run_launched_step().value(), 0);
    replayed->run_step(Marks::kNone, stamps_s);
    EXPECT_EQ(launched->read(program.loss, 0), replayed->read(program.loss, 0));
  }
}

TEST(CudaPlan, every_library_call_is_tuned_once_at_set_up_with_and_without_its_epilogue) {
  const StepProgram program = program_of("convnet");
  StandIn one_formulation;
  const auto plan = compiled(one_formulation, program, 0);
  plan->allocate(3);
  int64_t calls = 0;
  for (const std::string& name : implementations(*plan)) calls += name.starts_with("host:tuned");
  EXPECT_GT(calls, 3);
  EXPECT_EQ(one_formulation.device->counts().tuned, calls);
  StandIn both;
  compiled(both, program)->allocate(3);
  EXPECT_GT(both.device->counts().tuned, calls);
}

// Notes under which name each group was launched.
class NamingDevice : public HostDevice {
 public:
  void run_named(const std::string& name, const cuda::Piece& launches) override {
    const int64_t before = counts().launches + counts().calls;
    launches();
    if (counts().launches + counts().calls > before) names.push_back(name);
  }
  std::vector<std::string> names;
};

TEST(CudaPlan, groups_are_named_by_their_layers_and_phase_as_they_are_first_launched) {
  const auto device = std::make_shared<NamingDevice>();
  const StepProgram program = lower(network_from(R"({"name": "two", "input": {"shape": [3]},
    "loss": {"kind": "softmax_cross_entropy"}, "layers": [{"name": "fc1", "kind": "linear", "out_features": 4},
      {"name": "relu1", "kind": "relu"}, {"name": "fc2", "kind": "linear", "out_features": 2}]})"),
                                    2, Sgd{});
  CudaPlan plan(program, device);
  plan.allocate(3);
  const std::vector<std::string> once = device->names;
  EXPECT_THAT(once, ElementsAre("fc1+relu1/forward", "fc2/forward", "loss/forward", "loss/backward_data",
                                "fc2/backward_weights", "fc2/backward_data", "relu1/backward_data",
                                "fc1/backward_weights", "fc1+fc2/update"));
  std::vector<double> stamps_s;
  plan.run_step(Marks::kNone, stamps_s);
  EXPECT_EQ(device->names, once);
}

TEST(CudaPlan, what_is_read_back_is_never_out_of_date) {
  StandIn backend;
  const StepProgram program = program_of("mlp", 4, Sgd{.learning_rate = 0.1});
  const auto plan = compiled(backend, program);
  plan->allocate(3);
  const TensorId w = program.ops.back().inputs[0];
  const double first = plan->read(w, 0);
  std::vector<double> stamps_s;
  plan->run_step(Marks::kNone, stamps_s);
  const double second = plan->read(w, 0);
  EXPECT_NE(first, second);
  const std::vector<int> update = {static_cast<int>(plan->groups().size()) - 1};
  plan->run_groups(update, 3);
  EXPECT_NEAR(plan->read(w, 0) - second, 3 * (second - first), 1e-6);
  plan->restore();
  EXPECT_EQ(plan->read(w, 0), first);
}

TEST(CudaPlan, values_do_not_depend_on_the_backend) {
  StandIn backend;
  const auto reference = make_reference_backend();
  const StepProgram program = program_of("residual");
  const auto plan = compiled(backend, program);
  const auto exact = compiled(*reference, program);
  plan->allocate(7);
  exact->allocate(7);
  for (TensorId id = 0; id < static_cast<TensorId>(program.tensors.size()); ++id) {
    const Tensor& tensor = program.tensor(id);
    if (tensor.producer >= 0 || tensor.role == Role::kScalars) continue;
    for (int64_t i = 0; i < element_count(tensor.type.shape); ++i) {
      ASSERT_EQ(plan->read(id, i), exact->read(id, i)) << tensor.name << " " << i;
    }
  }
}

// A window beyond what fits a byte has its taps in integers.
TEST(CudaPlan, large_windows_have_wide_taps) {
  StandIn backend;
  for (const int channels : {2, 4}) {
    const StepProgram f32 = lower(network_from(R"({"name": "tall", "parameters": {"channels": 2},
      "input": {"shape": [2, 40, 3]}, "loss": {"kind": "mean_square"}, "layers": [
      {"name": "conv1", "kind": "conv2d", "out_channels": "$channels", "kernel": 1, "bias": false},
      {"name": "pool1", "kind": "max_pool2d", "kernel": 33, "stride": 3, "padding": 16}]})",
                                               {{"channels", channels}}),
                                  2, Sgd{});
    for (const Precision precision : {Precision::kF32, Precision::kBF16}) {
      const StepProgram program = with_precision(f32, precision);
      const auto plan = compiled(backend, program);
      plan->allocate(3);
      EXPECT_EQ(verify(program, *plan, VerifyMode::kFull, 3).failure, "") << channels << " " << to_string(precision);
    }
  }
}

}  // namespace
}  // namespace triphase
