// SPDX-License-Identifier: Apache-2.0
#include "measure/prediction.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>
#include <ranges>
#include <set>

namespace triphase {
namespace {

// The bytes of all operands, cut wherever one begins or ends: a piece is touched as a whole, or not at all.
class Pieces {
 public:
  explicit Pieces(const std::vector<Extent>& extents) {
    for (const Extent& extent : extents) {
      if (extent.bytes == 0) continue;
      cuts_.push_back(extent.begin);
      cuts_.push_back(extent.begin + extent.bytes);
    }
    std::ranges::sort(cuts_);
    cuts_.erase(std::ranges::unique(cuts_).begin(), cuts_.end());
  }

  double bytes(size_t piece) const { return static_cast<double>(cuts_[piece + 1] - cuts_[piece]); }
  // Those of an operand, in their order.
  std::ranges::iota_view<size_t, size_t> of(const Extent& operand) const {
    return {at(operand.begin), at(operand.begin + operand.bytes)};
  }
  std::set<size_t> of(const std::set<Extent>& operands) const {
    std::set<size_t> all;
    for (const Extent& operand : operands) std::ranges::copy(of(operand), std::inserter(all, all.end()));
    return all;
  }

 private:
  size_t at(int64_t cut) const { return static_cast<size_t>(std::ranges::lower_bound(cuts_, cut) - cuts_.begin()); }

  std::vector<int64_t> cuts_;
};

// What a group moves: its ops' operands in memory. What passes between them is read at once.
struct Operands {
  std::set<Extent> reads;
  std::set<Extent> writes;
};

Operands operands_of(const StepProgram& program, const Group& group, const std::vector<Extent>& extents) {
  const std::set<int> inside(group.ops.begin(), group.ops.end());
  const auto extent = [&](TensorId id) { return extents[static_cast<size_t>(id)]; };
  Operands result;
  for (const int index : group.ops) {
    const Op& op = program.ops[static_cast<size_t>(index)];
    if (std::holds_alternative<Reshape>(op.kind) && extent(op.inputs[0]) == extent(op.outputs[0])) continue;
    for (const TensorId id : op.inputs) {
      const Tensor& tensor = program.tensor(id);
      if (tensor.role != Role::kScalars && !inside.contains(tensor.producer)) result.reads.insert(extent(id));
    }
    for (const TensorId id : op.outputs) result.writes.insert(extent(id));
  }
  result.reads.erase(Extent());
  result.writes.erase(Extent());
  return result;
}

// A stretch of an operand, and how many bytes of others were touched since it was, its group's own with them.
struct Stretch {
  double bytes = 0;
  double distance_bytes = 0;
};

// An access of a group to an operand.
struct Access {
  std::vector<Stretch> stretches;  // in order
  bool write = false;
  bool in_place = false;  // writes over what the group reads
};

// For each piece that a group touches, how many bytes were touched since it was, the group's own with them. `before` is
// what was ever touched until now, the least recently first.
std::map<size_t, double> distances(const Pieces& pieces, const std::set<size_t>& touched,
                                   const std::vector<size_t>& before) {
  double since = 0;
  for (const size_t piece : touched) since += pieces.bytes(piece);
  std::map<size_t, double> result;
  for (const size_t piece : std::views::reverse(before)) {
    if (touched.contains(piece)) {
      result[piece] = since;
    } else {
      since += pieces.bytes(piece);
    }
  }
  return result;
}

// The accesses of each group in a step that follows another.
std::vector<std::vector<Access>> accesses(const StepProgram& program, const std::vector<Group>& groups,
                                          const std::vector<Extent>& extents) {
  const Pieces pieces(extents);
  std::vector<Operands> operands;
  for (const Group& group : groups) operands.push_back(operands_of(program, group, extents));
  std::vector<size_t> before;  // pieces, the least recently touched first
  std::vector<std::vector<Access>> result(groups.size());
  for (const bool counts : {false, true}) {
    for (size_t g = 0; g < groups.size(); ++g) {
      const std::set<size_t> read = pieces.of(operands[g].reads);
      std::set<size_t> touched = pieces.of(operands[g].writes);
      touched.insert(read.begin(), read.end());
      const std::map<size_t, double> distance =
          counts ? distances(pieces, touched, before) : std::map<size_t, double>();
      std::erase_if(before, [&](size_t piece) { return touched.contains(piece); });
      before.insert(before.end(), touched.begin(), touched.end());
      if (!counts) continue;
      const auto add = [&](const Extent& operand, bool write) {
        Access access{{}, write, write};
        for (const size_t piece : pieces.of(operand)) {
          if (access.stretches.empty() || access.stretches.back().distance_bytes != distance.at(piece)) {
            access.stretches.push_back({0, distance.at(piece)});
          }
          access.stretches.back().bytes += pieces.bytes(piece);
          if (!read.contains(piece)) access.in_place = false;
        }
        result[g].push_back(std::move(access));
      };
      for (const Extent& operand : operands[g].reads) add(operand, /*write=*/false);
      for (const Extent& operand : operands[g].writes) add(operand, /*write=*/true);
    }
  }
  return result;
}

// The op that a group is about: the one with the most nominal FLOP, or the first.
const Op& main_op(const StepProgram& program, const Group& group) {
  const auto flop = [&](int op) { return cost(program, program.ops[static_cast<size_t>(op)]).flop; };
  const int main = *std::ranges::max_element(group.ops, {}, flop);
  return program.ops[static_cast<size_t>(main)];
}

const Conv2d* convolution_of(const OpKind& kind) {
  return std::visit(
      Overloaded{[](const Conv2d& op) { return &op; }, [](const Conv2dBackwardData& op) { return &op.conv; },
                 [](const Conv2dBackwardWeights& op) { return &op.conv; },
                 [](const auto&) -> const Conv2d* { return nullptr; }},
      kind);
}

// Arithmetic works in blocks; what a dimension of d elements lacks to be many of them is wasted, as if it had a
// constant more: flop x block / d.
constexpr double kBlock = 16;

// The arithmetic that short dimensions waste, a term a dimension.
std::vector<double> edges_s(const StepProgram& program, const Op& op, double flop_s) {
  const std::vector<TensorType> in = program.types(op.inputs);
  const std::vector<TensorType> out = program.types(op.outputs);
  const auto edge = [&](int64_t d) { return flop_s * kBlock / static_cast<double>(d); };
  if (const auto* product = std::get_if<MatMul>(&op.kind)) {
    return {edge(out[0].shape[0]), edge(in[0].shape[product->transpose_a ? 0 : 1]), edge(out[0].shape[1])};
  }
  if (const Conv2d* conv = convolution_of(op.kind)) {
    const bool weights = std::holds_alternative<Conv2dBackwardWeights>(op.kind);
    const bool data = std::holds_alternative<Conv2dBackwardData>(op.kind);
    const Shape& w = weights ? out[0].shape : in[1].shape;
    const Shape& y = weights || data ? in[0].shape : out[0].shape;
    const bool strided = conv->window.stride[0] * conv->window.stride[1] > 1;
    return {edge(w[1]), edge(w[0]), edge(y[3]), edge(y[0] * y[2]), edge(w[2] * w[3]) / kBlock, strided ? flop_s : 0};
  }
  return {};
}

// Lines that are fetched before the hardware has learnt the pattern, and with them their pages' translation.
constexpr double kLinesBeforePrefetch = 256;
constexpr double kLineBytes = 64;

Demand demand_of(const StepProgram& program, const Group& group, const std::vector<Access>& accesses,
                 const Machine& machine) {
  const Op& op = main_op(program, group);
  const Cost total = cost(program, op);
  const bool update = op.phase == Phase::kUpdate;
  const bool contracts = total.flop > 0 && !update;
  const char* peak = convolution_of(op.kind) ? "convolution" : "gemm";
  const std::string dtype(to_string(contracts ? program.precision : Precision::kF32));
  const double flop_per_s = *machine.flop_per_s(peak, dtype);
  Demand demand{op.layer, op.phase, family_of(program, group), 0, {}, 0, {}};
  demand.flop_s = static_cast<double>(contracts ? total.flop_unpadded : total.flop_executed) / flop_per_s;
  // A result that takes an operand's place is written where it was just read: all moves as in an update.
  const bool in_place = std::ranges::any_of(accesses, &Access::in_place);
  double start_s = 0;
  for (const Access& access : accesses) {
    const char* kernel = in_place                       ? "update"
                         : !access.write                ? "read"
                         : group.implementation.streams ? "stream"
                                                        : "write";
    double lines_to_start = access.in_place ? 0 : kLinesBeforePrefetch;
    for (const Stretch& stretch : access.stretches) {
      for (const Machine::Share& part : machine.shares(stretch.distance_bytes)) {
        const auto rate = machine.bytes_per_s(kernel, part.working_set_bytes);
        demand.level_s[part.level] += part.share * stretch.bytes / rate.value_or(*machine.bytes_per_s("write", 1));
      }
      const double lines = std::min(stretch.bytes / kLineBytes, lines_to_start);
      start_s += lines * *machine.latency_s("load", stretch.distance_bytes);
      lines_to_start -= lines;
    }
  }
  const double call_s = *machine.latency_s("call");
  const double fork_join_s = *machine.latency_s("fork_join");
  const auto by = group.implementation.by;
  if (!accesses.empty()) {  // an own kernel is launched, an own loop forks or does not
    demand.latency_s = by == Implementation::By::kLibrary  ? call_s
                       : by == Implementation::By::kKernel ? fork_join_s
                                                           : std::min(call_s, fork_join_s);
  }
  const auto level_s = [&](const char* level) {
    const auto found = demand.level_s.find(level);
    return found == demand.level_s.end() ? 0 : found->second;
  };
  demand.terms_s = edges_s(program, op, demand.flop_s);
  demand.terms_s.insert(demand.terms_s.end(),
                        {demand.flop_s, level_s("L1") + level_s("L2"), level_s("L3"), level_s("memory"), start_s,
                         by == Implementation::By::kKernel ? fork_join_s : call_s, fork_join_s});
  return demand;
}

// The name with the longest time; empty for none.
std::string longest(const std::map<std::string, double>& times_s) {
  const auto most = std::ranges::max_element(times_s, {}, [](const auto& item) { return item.second; });
  return most == times_s.end() ? "" : most->first;
}

// What limits a call.
Roofline limit(const Demand& demand) {
  double bytes_s = 0;
  for (const auto& [level, s] : demand.level_s) bytes_s += s;
  const double s = std::max({demand.flop_s, bytes_s, demand.latency_s});
  if (s == demand.flop_s && s > 0) return {s, "compute"};
  if (s == demand.latency_s || demand.level_s.empty()) return {s, "latency"};
  return {s, longest(demand.level_s)};
}

constexpr const char* kByLoop = " by loop";

// The family of the same product by the library, or by our own loop: better than none where one was never seen.
std::string other_formulation(const std::string& family) {
  const size_t at = family.rfind(kByLoop);
  return at == std::string::npos ? family + kByLoop : family.substr(0, at);
}

// Minimises |A x - b|² over x >= 0, A given by rows, by descent along one coordinate after the other.
std::vector<double> nonnegative_least_squares(const std::vector<std::map<size_t, double>>& rows,
                                              const std::vector<double>& targets, size_t unknowns) {
  std::vector<std::vector<double>> normal(unknowns, std::vector<double>(unknowns));
  std::vector<double> right(unknowns);
  for (size_t r = 0; r < rows.size(); ++r) {
    for (const auto& [i, a] : rows[r]) {
      right[i] += a * targets[r];
      for (const auto& [j, b] : rows[r]) normal[i][j] += a * b;
    }
  }
  std::vector<double> x(unknowns);
  constexpr int kSweeps = 5000;
  for (int sweep = 0; sweep < kSweeps; ++sweep) {
    double change = 0;
    for (size_t i = 0; i < unknowns; ++i) {
      if (normal[i][i] <= 0) continue;
      double gradient = -right[i];
      for (size_t j = 0; j < unknowns; ++j) gradient += normal[i][j] * x[j];
      const double moved = std::max(0.0, x[i] - gradient / normal[i][i]);
      change = std::max(change, std::abs(moved - x[i]) / (1 + moved));
      x[i] = moved;
    }
    if (change < 1e-7) break;
  }
  return x;
}

}  // namespace

std::string family_of(const StepProgram& program, const Group& group) {
  const Op& op = main_op(program, group);
  const std::string phase(to_string(op.phase));
  const std::string in =  // by loop, below, stays last
      program.precision == Precision::kF32 ? "" : " in " + std::string(to_string(program.precision));
  if (std::holds_alternative<MatMul>(op.kind)) {
    return "linear " + phase + in + (group.implementation.by == Implementation::By::kLoop ? kByLoop : "");
  }
  if (const Conv2d* conv = convolution_of(op.kind)) {
    return (conv->groups > 1 ? "grouped convolution " : "convolution ") + phase + in;
  }
  if (const auto* update = std::get_if<Update>(&op.kind)) {
    return "update " + std::string(name_of(update->optimizer)) + in;
  }
  return std::string(name_of(op.kind)) + in;
}

std::optional<std::vector<Demand>> demands(const StepProgram& program, const std::vector<Group>& groups,
                                           const std::vector<Extent>& extents, const Machine& machine) {
  const std::string dtype(to_string(program.precision));
  const bool convolves = std::ranges::any_of(program.ops, [](const Op& op) { return convolution_of(op.kind); });
  if (!machine.complete() || !machine.flop_per_s("gemm", dtype)) return {};
  if (convolves && !machine.flop_per_s("convolution", dtype)) return {};
  const std::vector<std::vector<Access>> moved = accesses(program, groups, extents);
  std::vector<Demand> result;
  for (size_t g = 0; g < groups.size(); ++g) result.push_back(demand_of(program, groups[g], moved[g], machine));
  return result;
}

Roofline roofline(const std::vector<const Demand*>& demands) {
  double total_s = 0;
  std::map<std::string, double> bound_s;  // of the calls that each bounds
  for (const Demand* demand : demands) {
    const Roofline call = limit(*demand);
    total_s += call.s;
    bound_s[call.bound] += call.s;
  }
  return {total_s, longest(bound_s)};
}

std::optional<double> predicted_s(const std::vector<const Demand*>& demands, const Factors& factors) {
  double total_s = 0;
  for (const Demand* demand : demands) {
    auto found = factors.find(demand->family);
    if (found == factors.end()) found = factors.find(other_formulation(demand->family));
    if (found == factors.end() || found->second.size() != demand->terms_s.size()) return {};
    const double sum_s = std::inner_product(found->second.begin(), found->second.end(), demand->terms_s.begin(), 0.0);
    total_s += std::max(sum_s, limit(*demand).s);
  }
  return total_s;
}

Factors calibrate(const std::vector<Observation>& observations) {
  std::map<std::string, size_t> first_of;  // by family: the number of its first unknown
  std::map<std::string, size_t> terms_of;
  size_t unknowns = 0;
  for (const Observation& item : observations) {
    for (const Demand& demand : item.demands) {
      if (!first_of.emplace(demand.family, unknowns).second) continue;
      terms_of[demand.family] = demand.terms_s.size();
      unknowns += demand.terms_s.size();
    }
  }
  // Least absolute values by least squares whose weights follow from the last errors (Schlossmacher, 1973).
  std::vector<double> weights;
  for (const Observation& item : observations) weights.push_back(std::sqrt(item.weight));
  std::vector<double> x;
  constexpr int kRounds = 12;
  constexpr double kSmallestError = 0.03;
  for (int round = 0; round < kRounds; ++round) {
    std::vector<std::map<size_t, double>> rows;
    std::vector<double> targets;
    for (size_t r = 0; r < observations.size(); ++r) {
      std::map<size_t, double> row;
      for (const Demand& demand : observations[r].demands) {
        for (size_t t = 0; t < demand.terms_s.size(); ++t) {
          row[first_of[demand.family] + t] += weights[r] * demand.terms_s[t] / observations[r].measured_s;
        }
      }
      rows.push_back(std::move(row));
      targets.push_back(weights[r]);
    }
    x = nonnegative_least_squares(rows, targets, unknowns);
    for (size_t r = 0; r < observations.size(); ++r) {
      double predicted = 0;
      for (const auto& [i, a] : rows[r]) predicted += a * x[i];
      const double error = std::abs(predicted / weights[r] - 1);
      weights[r] = std::sqrt(observations[r].weight / std::max(error, kSmallestError));
    }
  }
  Factors factors;
  for (const auto& [family, first] : first_of) {
    const auto begin = x.begin() + static_cast<std::ptrdiff_t>(first);
    factors[family].assign(begin, begin + static_cast<std::ptrdiff_t>(terms_of[family]));
  }
  return factors;
}

}  // namespace triphase
