// SPDX-License-Identifier: Apache-2.0
// What a backend offers: it compiles a whole StepProgram to a Plan, because layouts, fusion and memory are decided
// across ops. A backend knows ops, and no layer. Vendor headers stay in the backend's own folder.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "program/program.h"

namespace triphase {

// Where a step takes time stamps: nowhere inside, at each change of pass, of phase, or of layer or phase.
enum class Marks { kNone, kPasses, kPhases, kLayers };
inline constexpr size_t kKindsOfMarks = 4;

// A (layer, phase) to which an interval between two stamps belongs; layer -1 where marks are coarser than layers. Where
// they are coarser than phases, the phase is one of several.
struct Segment {
  int layer = -1;
  Phase phase = Phase::kForward;

  bool operator==(const Segment&) const = default;
};

// What a device that is not the host says of itself at a moment; absent where it does not tell.
struct DeviceState {
  std::optional<double> clock_hz, memory_clock_hz, power_w, temperature_c;
  std::vector<std::string> throttled_by;  // "power cap", "thermal" ...; empty where nothing holds its clock down
};

// Something that runs whole training steps and stamps them on its own clock. A Plan is one; tests have another.
class StepSource {
 public:
  virtual ~StepSource() = default;

  // The intervals of a step in order; a phase or layer may come several times. Marks::kNone gives one segment.
  virtual std::span<const Segment> segments(Marks marks) const = 0;

  // Runs one step. Writes segments(marks).size() + 1 stamps in seconds, ascending; interval i lies between i and i + 1.
  // Throws VendorError.
  virtual void run_step(Marks marks, std::vector<double>& stamps_s) = 0;

  // Seconds spent in run_step() so far that no interval holds, such as preparing each step; they count against a
  // budget.
  virtual double untimed_s() const { return 0; }

  // Whether a mark takes long enough to be seen in a phase, as an event of a GPU does: what is cut more often would
  // look longer.
  virtual bool marks_cost_time() const { return false; }
  // Whether its clock is the host's, so that CPU time can be set against it.
  virtual bool on_host() const { return true; }
  virtual std::optional<DeviceState> state() { return {}; }
  // Runs one step without marks, launched call by call where run_step() replays a recording; gives its seconds. Absent
  // where that is no difference.
  virtual std::optional<double> run_launched_step() { return {}; }
};

// What computes a group: a library's call, an own loop of the host's, or an own kernel of a device's.
struct Implementation {
  enum class By { kLibrary, kLoop, kKernel };
  std::string name;  // "matmul:brg:avx512_core", "loop:product", "kernel:relu"
  By by = By::kLibrary;
  bool streams = false;  // its results pass the caches by

  Implementation() = default;
  Implementation(std::string that, By whose = By::kLibrary, bool streaming = false)
      : name(std::move(that)), by(whose), streams(streaming) {}
  Implementation(const char* that) : name(that) {}
};
inline Implementation own_loop(const std::string& name, bool streams = false) {
  return {"loop:" + name + (streams ? "_streamed" : ""), Implementation::By::kLoop, streams};
}
inline Implementation own_kernel(const std::string& name) { return {"kernel:" + name, Implementation::By::kKernel}; }

// A unit that a plan executes: one op, or several fused into one call. Never crosses a phase.
struct Group {
  std::vector<int> ops;  // indices into the program, ascending; the first gives layer and phase
  Implementation implementation;
  int64_t traffic_bytes = 0;  // what it moves as planned: operands that exist in memory, and inserted reorders
};

// Where a tensor lies among all the memory of a plan; of no bytes where it is never written to memory.
struct Extent {
  int64_t begin = 0;
  int64_t bytes = 0;

  auto operator<=>(const Extent&) const = default;
};

struct MemoryPlan {
  int64_t persistent_bytes = 0;  // parameters, states, data: live across steps
  int64_t transient_bytes = 0;   // values and gradients, buffers shared by liveness
  int64_t scratch_bytes = 0;     // the library's workspace
  int64_t peak_bytes() const { return persistent_bytes + transient_bytes + scratch_bytes; }
};

// A compiled step. Nothing large is allocated before allocate(), so that memory can be judged first.
class Plan : public StepSource {
 public:
  virtual const std::vector<Group>& groups() const = 0;
  virtual MemoryPlan memory_plan() const = 0;

  // Allocates, and fills data, parameters and states from `seed`; the values do not depend on the backend or its
  // layouts.
  virtual void allocate(uint64_t seed) = 0;
  // Parameters, states and the step count as after allocate().
  virtual void restore() = 0;
  virtual void set_learning_rate(double learning_rate) = 0;

  // The same before allocate() and after. Tensors that are not alive at the same time may share bytes.
  virtual Extent extent(TensorId id) const = 0;
  // Whether a tensor is ever written to memory; false for what fusion keeps in registers.
  bool materialised(TensorId id) const { return extent(id).bytes > 0; }
  // The element at a row-major logical index, from wherever the tensor's buffer lies; valid while the tensor is live.
  virtual double read(TensorId id, int64_t index) const = 0;

  // One step, calling before(g) and after(g) around each group g: in between, inputs become outputs, maybe in place.
  virtual void run_observed(const std::function<void(int)>& before, const std::function<void(int)>& after) = 0;

  // Runs these groups, in order, so many times over, on what their operands hold: those of the last step. Gives the
  // seconds of all of it on the backend's own clock.
  virtual double run_groups(std::span<const int> groups, int64_t runs) = 0;
  // The least time above zero that this clock tells, in seconds.
  virtual double tick_s() const = 0;
  // Pushes all memory that the plan has allocated out of every cache; what computes is awake afterwards. False where
  // the processor has no way to.
  virtual bool evict() = 0;
};

// Where each tensor of the program lies in the plan's memory, by TensorId.
inline std::vector<Extent> extents(const StepProgram& program, const Plan& plan) {
  std::vector<Extent> all;
  for (size_t id = 0; id < program.tensors.size(); ++id) all.push_back(plan.extent(static_cast<TensorId>(id)));
  return all;
}

struct CompileOptions {
  int threads = 1;
  // For tests: of several ways to compute an op always the one of this number, or the last. Absent: the one that is
  // fastest at set-up.
  std::optional<size_t> formulation = std::nullopt;
};

// A kernel that does nothing but press against one limit of the machine, by the same library and threads as the steps.
struct Probe {
  // gemm, convolution; read, write, stream, copy, update; load, fork_join, call. The few that tell the machine's speed
  // at the moment beside what it was when the ceilings were measured: gauge_arithmetic, gauge_cache, gauge_memory.
  std::string kernel;
  std::string dtype;              // of arithmetic; empty for the others
  std::string level;              // L1, L2, L3 or memory for what reads and writes; empty for the others
  std::string shape;              // "2048x2048x2048"; empty where there is nothing to say
  int64_t working_set_bytes = 0;  // of all threads together
  double work = 0;                // FLOP or bytes of one run, or how many of what has a latency
  bool latency = false;           // whether the time of one is the limit, and not the work done in a second
  std::function<void()> run;      // returns when the work is done
  // How long the last run took by the backend's own clock, in seconds; empty where the host's clock tells.
  std::function<double()> took_s = {};
};

// Probes of one kernel that share memory, made only while they are needed.
struct ProbeGroup {
  int64_t memory_bytes = 0;  // what make() allocates
  std::function<std::vector<Probe>()> make;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string name() const = 0;
  // Versions and instruction sets, for the record: {"onednn": "3.2.0", "onednn_isa": "avx512_core"}.
  virtual std::vector<std::pair<std::string, std::string>> versions() const = 0;
  // The program must outlive the plan. Throws VendorError; what cannot run is returned.
  virtual std::variant<std::unique_ptr<Plan>, Unsupported> compile(const StepProgram& program,
                                                                   const CompileOptions& options) = 0;
  // Memory that its plans may have, where that is not the host's.
  virtual std::optional<int64_t> free_bytes() const { return {}; }
  // Whether the host computes, by whose clock and memory then all goes.
  bool on_host() const { return !free_bytes(); }
  // How many of so many threads of the host compute. Where a device does, their number does not matter, and it is 1.
  virtual int computing_threads(int threads) const { return threads; }
  // What this backend has to measure the machine's ceilings with, on so many threads; none where it has nothing.
  virtual std::vector<ProbeGroup> probes(int /*threads*/) { return {}; }
  // The gauges alone.
  virtual ProbeGroup gauge(int /*threads*/) { return {}; }
  // Bytes a second at which what is in no cache is read, by a quick look; absent where nothing can be evicted.
  // triphase_ceilings knows it better.
  virtual std::optional<double> memory_bytes_per_s(int /*threads*/) { return {}; }
};

}  // namespace triphase
