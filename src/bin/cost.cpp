// SPDX-License-Identifier: Apache-2.0
// triphase_cost: FLOP, bytes and memory of a training step, by layer and phase. Times nothing, allocates nothing large.
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

#include "bin/cli.h"
#include "model/files.h"
#include "program/precision.h"
#include "report/cost_report.h"

namespace {

struct Flags {
  std::string model;
  int64_t batch = 1;
  std::string dtype = "f32";
  std::optional<double> loss_scale;
  std::string optimizer = "sgd";
  std::string format = "table";
};

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Counts what one training step costs by layer and phase: FLOP, bytes and memory.", "triphase_cost");
  Flags flags;
  app.add_option("--model", flags.model,
                 "A model of benchmarks/models, such as DeeperConvNet:depth=10, or a .json file")
      ->required();
  app.add_option("--batch", flags.batch, "Examples a step")->capture_default_str();
  app.add_option("--dtype", flags.dtype, "f32, tf32 (products of rounded operands), bf16 or f16 (mixed precision)")
      ->check(CLI::IsMember(triphase::precision_names()))
      ->capture_default_str();
  triphase::add_loss_scale(app, flags.loss_scale);
  app.add_option("--optimizer", flags.optimizer, "sgd, momentum, nesterov, adagrad, rmsprop, adam or adamw")
      ->capture_default_str();
  app.add_option("--format", flags.format, "table for people, json for programs")
      ->check(CLI::IsMember({"table", "json"}))
      ->capture_default_str();
  return triphase::guarded(app, [&] {
    app.parse(argc, argv);
    if (flags.loss_scale && flags.dtype != "f16")
      throw triphase::InputError("--loss_scale", "--dtype=f16", flags.dtype);
    const triphase::Network network =
        triphase::load_network(triphase::parse_model_spec(flags.model), triphase::benchmarks_folder() + "/models");
    const triphase::StepProgram program =
        triphase::with_precision(triphase::lower(network, flags.batch, triphase::optimizer_named(flags.optimizer)),
                                 triphase::precision_named(flags.dtype).value(), flags.loss_scale);
    const std::string text = flags.format == "json" ? triphase::cost_json(network, program).dump(2) + "\n"
                                                    : triphase::cost_table(network, program);
    if (std::fputs(text.c_str(), stdout) == EOF || std::fflush(stdout) != 0) {
      throw triphase::InputError("standard output", "a file that can be written", std::strerror(errno));
    }
    return 0;
  });
}
