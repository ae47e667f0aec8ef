// SPDX-License-Identifier: Apache-2.0
// The losses of ten steps agree with PyTorch's, which tests/data/pytorch_losses.json holds in float64 for the small
// networks of benchmarks/models under every optimizer. scripts/make_pytorch_losses made the file: from the model files
// and the definition of the initial values, but with no code of triphase.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <map>
#include <set>

#include "backends/reference/reference.h"
#include "model/files.h"
#include "model/network.h"
#ifdef TRIPHASE_ONEDNN
#include "backends/onednn/onednn.h"
#endif

namespace triphase {
namespace {

// float64 on both sides: what remains is the relative error of 1e-7 in the quantile behind the initial values, which
// tips some of them to the next float. Measured: at most 8.2e-8.
constexpr double kFloat64Tolerance = 5e-7;

// PyTorch's own float32 departs from its float64 by at most 2.8e-6 on these cases (float32_error in the file), by the
// order of its sums; so does oneDNN with AVX-512, and other instruction sets sum in other orders.
constexpr double kFloat32Tolerance = 2e-5;

struct LossCase {
  std::string model;
  int64_t batch = 0;
  std::string optimizer;
  double learning_rate = 0;
  uint64_t seed = 0;
  std::vector<double> losses;
};

void PrintTo(const LossCase& item, std::ostream* out) { *out << item.model << " " << item.optimizer; }

// Nothing where the file is missing; a test says so.
std::vector<LossCase> stored_cases() {
  nlohmann::json document;
  try {
    document = read_json(TRIPHASE_SOURCE_DIR "/tests/data/pytorch_losses.json");
  } catch (const InputError&) {
    return {};
  }
  std::vector<LossCase> cases;
  for (const auto& item : document.at("cases")) {
    cases.push_back({item.at("model"), item.at("batch"), item.at("optimizer"), item.at("learning_rate"),
                     document.at("provenance").at("seed"), item.at("losses")});
  }
  return cases;
}

std::vector<LossCase> stored_cases_of(const std::string& model) {
  std::vector<LossCase> cases = stored_cases();
  std::erase_if(cases, [&](const LossCase& item) { return item.model != model; });
  return cases;
}

void expect_losses(Backend& backend, const LossCase& item, double tolerance) {
  const Network network = load_network(parse_model_spec(item.model), TRIPHASE_SOURCE_DIR "/benchmarks/models");
  const StepProgram program =
      lower(network, item.batch, with_learning_rate(optimizer_named(item.optimizer), item.learning_rate));
  auto compiled = backend.compile(program, {.threads = 2});
  ASSERT_TRUE(std::holds_alternative<std::unique_ptr<Plan>>(compiled)) << std::get<Unsupported>(compiled).reason;
  Plan& plan = *std::get<std::unique_ptr<Plan>>(compiled);
  plan.allocate(item.seed);
  std::vector<double> stamps;
  double largest = 0;
  for (size_t step = 0; step < item.losses.size(); ++step) {
    plan.run_step(Marks::kNone, stamps);
    const double difference = std::abs(plan.read(program.loss, 0) / item.losses[step] - 1);
    EXPECT_LE(difference, tolerance) << "step " << step << ", where PyTorch has " << item.losses[step];
    largest = std::max(largest, difference);
  }
  testing::Test::RecordProperty("largest_difference", std::to_string(largest * 1e9) + "e-9");
}

std::string test_name(const testing::TestParamInfo<LossCase>& info) {
  std::string name = info.param.model + "_" + info.param.optimizer;
  std::ranges::replace_if(
      name, [](unsigned char c) { return !std::isalnum(c); }, '_');
  return name;
}

TEST(PyTorchLosses, cover_every_small_network_and_every_optimizer) {
  std::map<std::string, std::set<std::string>> optimizers;
  for (const LossCase& item : stored_cases()) {
    EXPECT_EQ(item.losses.size(), 10u);
    optimizers[item.model].insert(item.optimizer);
  }
  const std::set<std::string> all = {"sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"};
  for (const char* model : {"OneNet", "MLP:inputs=256", "ConvNet", "DeeperConvNet:depth=1",
                            "DeeperConvNet:depth=2,share_weights=true", "CalibrationResidual"}) {
    EXPECT_EQ(optimizers[model], all) << model;
  }
}

// What a tolerance lets pass must not be as large as what tells the optimizers apart: on OneNet at least it is not.
TEST(PyTorchLosses, tell_every_optimizer_from_every_other) {
  const std::vector<LossCase> cases = stored_cases_of("OneNet");
  for (const LossCase& a : cases) {
    for (const LossCase& b : cases) {
      if (a.optimizer >= b.optimizer) continue;
      double largest = 0;
      for (size_t i = 0; i < a.losses.size(); ++i) largest = std::max(largest, std::abs(a.losses[i] / b.losses[i] - 1));
      EXPECT_GT(largest, 2 * kFloat32Tolerance) << a.optimizer << " " << b.optimizer;
    }
  }
}

class ReferenceLosses : public testing::TestWithParam<LossCase> {};

TEST_P(ReferenceLosses, are_PyTorchs) { expect_losses(*make_reference_backend(), GetParam(), kFloat64Tolerance); }

// The convolutions take the plain loops of the reference minutes.
INSTANTIATE_TEST_SUITE_P(OneNet, ReferenceLosses, testing::ValuesIn(stored_cases_of("OneNet")), test_name);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ReferenceLosses);

#ifdef TRIPHASE_ONEDNN
class OneDnnLosses : public testing::TestWithParam<LossCase> {};

TEST_P(OneDnnLosses, are_PyTorchs) { expect_losses(*make_onednn_backend(), GetParam(), kFloat32Tolerance); }

INSTANTIATE_TEST_SUITE_P(Small, OneDnnLosses, testing::ValuesIn(stored_cases()), test_name);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(OneDnnLosses);
#endif

}  // namespace
}  // namespace triphase
