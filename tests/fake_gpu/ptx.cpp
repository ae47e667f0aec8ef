// SPDX-License-Identifier: Apache-2.0
#include "fake_gpu/ptx.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cfenv>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/narrow.h"
#include "fake_gpu/runtime.h"

namespace fake_gpu {
namespace {

using triphase::BF16;
using triphase::F16;

// --- A thread, and what it shares ---------------------------------------------------------------

// Registers, constants, addresses of symbols and special registers are all slots of 64 bits.
using Slots = std::vector<uint64_t>;

template <class T>
T get(uint64_t slot) {
  if constexpr (std::is_same_v<T, bool>) {
    return slot != 0;
  } else {
    T value;
    std::memcpy(&value, &slot, sizeof value);
    return value;
  }
}

// Signed numbers fill the slot by their sign.
template <class T>
uint64_t slot_of(T value) {
  if constexpr (std::is_integral_v<T>) {
    return static_cast<uint64_t>(static_cast<int64_t>(value));
  } else {
    uint64_t slot = 0;
    std::memcpy(&slot, &value, sizeof value);
    return slot;
  }
}

// Shared memory begins where nothing is aligned by chance.
constexpr uint64_t kSharedBegin = 4;

enum class Space { kParameters, kShared, kGlobal };
constexpr std::string_view name_of(Space space) {
  return space == Space::kGlobal ? "global" : space == Space::kShared ? "shared" : "parameter";
}

struct Access {
  uint64_t address = 0;
  int64_t thread = 0;
  uint8_t bytes = 0;
};
// Of a space, by all threads between which nothing is in order.
struct Accesses {
  std::vector<Access> reads;
  std::vector<Access> writes;

  void clear() {
    reads.clear();
    writes.clear();
  }
  // Throws where two threads access the same byte, one of them writing. Sorts.
  void expect_no_race(Space space) {
    std::ranges::sort(writes, {}, &Access::address);
    for (const auto* all : {&reads, &writes}) {
      for (const Access& access : *all) {
        constexpr uint64_t kMostBytes = 16;  // of one access
        const uint64_t from = access.address - std::min(access.address, kMostBytes);
        auto write = std::ranges::lower_bound(writes, from, {}, &Access::address);
        for (; write != writes.end() && write->address < access.address + access.bytes; ++write) {
          if (write->thread == access.thread || write->address + write->bytes <= access.address) continue;
          throw std::runtime_error("threads " + std::to_string(write->thread) + " and " +
                                   std::to_string(access.thread) + " race for " + std::string(name_of(space)) +
                                   " memory");
        }
      }
    }
    clear();
  }
};

struct Launch {
  std::vector<std::byte> parameters;
  std::vector<std::byte> shared;
  Accesses of_shared;  // since the last barrier
  Accesses of_global;
  int64_t thread = 0;  // the one that runs, of all

  std::byte* at(Space space, uint64_t address, size_t bytes, bool write) {
    if (space == Space::kShared) address = static_cast<uint32_t>(address);
    if (address % bytes != 0) throw std::runtime_error("an address is no multiple of what is accessed there");
    if (space != Space::kParameters) {
      Accesses& accesses = space == Space::kShared ? of_shared : of_global;
      (write ? accesses.writes : accesses.reads).push_back({address, thread, static_cast<uint8_t>(bytes)});
    }
    if (space == Space::kGlobal) {
      auto* data = std::bit_cast<std::byte*>(address);
      if (!fake_gpu_holds(data, static_cast<int64_t>(bytes))) throw std::runtime_error("an address of no allocation");
      return data;
    }
    std::vector<std::byte>& memory = space == Space::kShared ? shared : parameters;
    const uint64_t begin = space == Space::kShared ? kSharedBegin : 0;
    if (address < begin || address > memory.size() || bytes > memory.size() - address) {
      throw std::runtime_error("an address beyond its " + std::string(name_of(space)) + " memory");
    }
    return memory.data() + address;
  }
};

// --- What instructions do -----------------------------------------------------------------------

using Run = std::function<void(uint64_t* slots, Launch& launch)>;
using Places = std::vector<int>;  // the slots of an instruction's operands
using Make = std::function<Run(const Places& places, int64_t offset)>;

// slot 0 = f(slots 1, 2 ...)
template <class To, class... From, class F>
Make computes(F f) {
  return [f](const Places& places, int64_t) -> Run {
    std::array<int, 1 + sizeof...(From)> at{};
    if (places.size() != at.size()) throw std::runtime_error("another number of operands");
    std::ranges::copy(places, at.begin());
    return [f, at](uint64_t* slots, Launch&) {
      slots[at[0]] = [&]<size_t... I>(std::index_sequence<I...>) {
        return slot_of<To>(static_cast<To>(f(get<From>(slots[at[1 + I]])...)));
      }
      (std::index_sequence_for<From...>());
    };
  };
}

// `count` neighbours of type T.
template <class T>
Make loads(Space space, size_t count) {
  return [=](const Places& places, int64_t offset) -> Run {
    if (places.size() != count + 1) throw std::runtime_error("another number of operands");
    return [=](uint64_t* slots, Launch& launch) {
      const uint64_t address = slots[places.back()] + static_cast<uint64_t>(offset);
      const std::byte* from = launch.at(space, address, count * sizeof(T), false);
      for (size_t i = 0; i < count; ++i) {
        T value;
        std::memcpy(&value, from + i * sizeof(T), sizeof(T));
        slots[places[i]] = slot_of(value);
      }
    };
  };
}
template <class T>
Make stores(Space space, size_t count) {
  return [=](const Places& places, int64_t offset) -> Run {
    if (places.size() != count + 1) throw std::runtime_error("another number of operands");
    return [=](uint64_t* slots, Launch& launch) {
      const uint64_t address = slots[places.front()] + static_cast<uint64_t>(offset);
      std::byte* to = launch.at(space, address, count * sizeof(T), true);
      for (size_t i = 0; i < count; ++i) {
        const T value = get<T>(slots[places[i + 1]]);
        std::memcpy(to + i * sizeof(T), &value, sizeof(T));
      }
    };
  };
}

float fma_rounded_down(float a, float b, float c) {
  const int before = std::fegetround();
  std::fesetround(FE_DOWNWARD);
  volatile float x = a;  // so that nothing is computed before, or after
  volatile float result = std::fma(x, b, c);
  std::fesetround(before);
  return result;
}

uint32_t permute(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t bytes = uint64_t{b} << 32 | a;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t select = selector >> (4 * i) & 0xf;
    uint32_t byte = static_cast<uint32_t>(bytes >> (8 * (select & 7)) & 0xff);
    if (select & 8) byte = byte & 0x80 ? 0xff : 0;
    result |= byte << (8 * i);
  }
  return result;
}

template <class T>
T divided(T a, T b, bool rest) {
  using U = std::make_unsigned_t<T>;
  if (b == 0) throw std::runtime_error("a division by 0");
  if (std::is_signed_v<T> && b == T(-1)) return rest ? T(0) : static_cast<T>(U(0) - U(a));
  return rest ? static_cast<T>(a % b) : static_cast<T>(a / b);
}

class Instructions {
 public:
  Instructions() {
    integers<int32_t>("s32");
    integers<int64_t>("s64");
    integers<uint32_t>("u32");
    integers<uint64_t>("u64");
    bits<uint32_t>("b32");
    bits<uint64_t>("b64");
    all_["or.pred"] = computes<bool, bool, bool>([](bool a, bool b) { return a || b; });
    all_["and.pred"] = computes<bool, bool, bool>([](bool a, bool b) { return a && b; });
    all_["not.pred"] = computes<bool, bool>([](bool a) { return !a; });
    all_["mul.hi.u32"] = computes<uint32_t, uint32_t, uint32_t>(
        [](uint64_t a, uint64_t b) { return static_cast<uint32_t>(a * b >> 32); });
    all_["mul.wide.s32"] = computes<int64_t, int32_t, int32_t>([](int64_t a, int64_t b) { return a * b; });
    all_["mul.wide.u32"] = computes<uint64_t, uint32_t, uint32_t>([](uint64_t a, uint64_t b) { return a * b; });
    all_["prmt.b32"] = computes<uint32_t, uint32_t, uint32_t, uint32_t>(permute);
    comparisons<int16_t>("s16");
    comparisons<uint16_t>("u16");
    floats();
    conversions();
    moves<float>("f32");
    moves<double>("f64");
    moves<uint16_t>("u16");
    moves<uint16_t>("b16");
    moves<bool>("pred");
    all_["cvta.to.global.u64"] = all_["mov.u64"];
    memory<uint8_t>("u8");
    memory<uint16_t>("u16");
    memory<int32_t>("s32");
    memory<uint32_t>("u32");
    memory<uint64_t>("u64");
    memory<float>("f32");
    memory<double>("f64");
  }

  // Throws for one that is not there.
  const Make& named(const std::string& name) const {
    const auto found = all_.find(name);
    if (found == all_.end()) throw std::runtime_error("an instruction that is not known here: " + name);
    return found->second;
  }

 private:
  template <class T>
  void integers(const std::string& type) {
    using U = std::make_unsigned_t<T>;  // which wraps
    all_["add." + type] = computes<U, U, U>([](U a, U b) { return a + b; });
    all_["sub." + type] = computes<U, U, U>([](U a, U b) { return a - b; });
    all_["mul.lo." + type] = computes<U, U, U>([](U a, U b) { return a * b; });
    all_["mad.lo." + type] = computes<U, U, U, U>([](U a, U b, U c) { return a * b + c; });
    all_["neg." + type] = computes<U, U>([](U a) { return U(0) - a; });
    all_["div." + type] = computes<T, T, T>([](T a, T b) { return divided(a, b, false); });
    all_["rem." + type] = computes<T, T, T>([](T a, T b) { return divided(a, b, true); });
    all_["min." + type] = computes<T, T, T>([](T a, T b) { return std::min(a, b); });
    all_["max." + type] = computes<T, T, T>([](T a, T b) { return std::max(a, b); });
    all_["shr." + type] = computes<T, T, uint32_t>([](T a, uint32_t by) {
      constexpr uint32_t kMost = 8 * sizeof(T) - 1;
      return by > kMost ? static_cast<T>(a >> kMost >> 1) : static_cast<T>(a >> by);
    });
    comparisons<T>(type);
    moves<T>(type);
  }
  template <class U>
  void bits(const std::string& type) {
    all_["and." + type] = computes<U, U, U>([](U a, U b) { return a & b; });
    all_["or." + type] = computes<U, U, U>([](U a, U b) { return a | b; });
    all_["xor." + type] = computes<U, U, U>([](U a, U b) { return a ^ b; });
    all_["not." + type] = computes<U, U>([](U a) { return ~a; });
    all_["shl." + type] =
        computes<U, U, uint32_t>([](U a, uint32_t by) { return by < 8 * sizeof(U) ? static_cast<U>(a << by) : U(0); });
    moves<U>(type);
  }
  template <class T>
  void comparisons(const std::string& type) {
    all_["setp.eq." + type] = computes<bool, T, T>([](T a, T b) { return a == b; });
    all_["setp.ne." + type] = computes<bool, T, T>([](T a, T b) { return a < b || a > b; });  // not of NaN
    all_["setp.lt." + type] = computes<bool, T, T>([](T a, T b) { return a < b; });
    all_["setp.le." + type] = computes<bool, T, T>([](T a, T b) { return a <= b; });
    all_["setp.gt." + type] = computes<bool, T, T>([](T a, T b) { return a > b; });
    all_["setp.ge." + type] = computes<bool, T, T>([](T a, T b) { return a >= b; });
  }
  template <class T>
  void moves(const std::string& type) {
    all_["mov." + type] = computes<T, T>([](T a) { return a; });
    all_["selp." + type] = computes<T, T, T, bool>([](T a, T b, bool first) { return first ? a : b; });
  }
  void floats() {
    const auto binary = [&](const std::string& name, auto f) { all_[name] = computes<float, float, float>(f); };
    binary("add.f32", [](float a, float b) { return a + b; });
    binary("sub.f32", [](float a, float b) { return a - b; });
    binary("mul.f32", [](float a, float b) { return a * b; });
    binary("div.rn.f32", [](float a, float b) { return a / b; });
    binary("max.f32", [](float a, float b) { return std::fmax(a, b); });
    binary("min.f32", [](float a, float b) { return std::fmin(a, b); });
    const auto unary = [&](const std::string& name, auto f) { all_[name] = computes<float, float>(f); };
    unary("neg.f32", [](float a) { return -a; });
    unary("abs.f32", [](float a) { return std::abs(a); });
    unary("sqrt.rn.f32", [](float a) { return std::sqrt(a); });
    // As far off as they may be, about.
    unary("rsqrt.approx.f32", [](double a) { return static_cast<float>(1 / std::sqrt(a) * (1 + 0x1p-23)); });
    unary("ex2.approx.ftz.f32",
          [](double a) { return a < -126 ? 0.0f : static_cast<float>(std::exp2(a) * (1 + 0x1p-22)); });
    unary("cvt.sat.f32.f32", [](float a) { return a >= 0 ? std::min(a, 1.0f) : 0.0f; });
    using Three = float (*)(float, float, float);
    all_["fma.rn.f32"] = computes<float, float, float, float>(static_cast<Three>(std::fma));
    all_["fma.rm.f32"] = computes<float, float, float, float>(fma_rounded_down);
    all_["sub.f64"] = computes<double, double, double>([](double a, double b) { return a - b; });
    comparisons<float>("f32");
    const auto unordered = [&](const std::string& name, auto compares) {
      all_["setp." + name + ".f32"] = computes<bool, float, float>(
          [=](float a, float b) { return std::isnan(a) || std::isnan(b) || compares(a, b); });
    };
    unordered("equ", std::equal_to<>());
    unordered("neu", std::not_equal_to<>());
    unordered("ltu", std::less<>());
    unordered("leu", std::less_equal<>());
    unordered("gtu", std::greater<>());
    unordered("geu", std::greater_equal<>());
  }
  void conversions() {
    integer_conversions_from<uint16_t>("u16");
    integer_conversions_from<int16_t>("s16");
    integer_conversions_from<uint32_t>("u32");
    integer_conversions_from<int32_t>("s32");
    integer_conversions_from<uint64_t>("u64");
    integer_conversions_from<int64_t>("s64");
    conversion<float, double>("cvt.rn.f32.f64");
    conversion<double, float>("cvt.f64.f32");
    all_["cvt.f32.f16"] = computes<float, uint16_t>([](uint16_t bits) {
      F16 value;
      value.bits = bits;
      return static_cast<float>(value);
    });
    all_["cvt.rn.f16.f32"] = computes<uint16_t, float>([](float a) { return F16(a).bits; });
    all_["cvt.rn.bf16.f32"] = computes<uint16_t, float>([](float a) { return BF16(a).bits; });
  }
  template <class From>
  void integer_conversions_from(const std::string& from) {
    conversion<uint16_t, From>("cvt.u16." + from);
    conversion<int16_t, From>("cvt.s16." + from);
    conversion<uint32_t, From>("cvt.u32." + from);
    conversion<int32_t, From>("cvt.s32." + from);
    conversion<uint64_t, From>("cvt.u64." + from);
    conversion<int64_t, From>("cvt.s64." + from);
    conversion<float, From>("cvt.rn.f32." + from);
  }
  template <class To, class From>
  void conversion(const std::string& name) {
    all_[name] = computes<To, From>([](From a) { return static_cast<To>(a); });
  }
  template <class T>
  void memory(const std::string& type) {
    for (const auto& [vector, count] : {std::pair<std::string, size_t>("", 1), {"v2.", 2}, {"v4.", 4}}) {
      all_["ld.param." + vector + type] = loads<T>(Space::kParameters, count);
      for (const auto& [name, space] :
           {std::pair<std::string, Space>("global", Space::kGlobal), {"shared", Space::kShared}}) {
        all_["ld." + name + "." + vector + type] = loads<T>(space, count);
        all_["st." + name + "." + vector + type] = stores<T>(space, count);
      }
    }
  }

  std::map<std::string, Make> all_;
};

// --- Kernels ------------------------------------------------------------------------------------

struct Instruction {
  enum class Kind { kRun, kBranch, kBarrier, kReturn };
  Kind kind = Kind::kRun;
  Run run;
  size_t target = 0;   // of a branch
  int predicate = -1;  // the slot that it depends on
  bool when = true;    // what that must hold
};

class PtxKernel {
 public:
  PtxKernel(std::string name, const std::string& parameters, const std::string& body) : name_(std::move(name)) {
    for (const std::string& line : lines(parameters)) add_symbol(line, parameter_bytes_, &parameters_);
    for (const char* special : {"%tid.x", "%ctaid.x", "%nctaid.x"}) add_slot(special, 0);
    std::map<std::string, size_t> labels;
    std::vector<std::pair<size_t, std::string>> branches;
    for (const std::string& line : lines(body)) {
      if (line.ends_with(':')) {
        labels[line.substr(0, line.size() - 1)] = instructions_.size();
      } else if (line.starts_with(".shared")) {
        add_symbol(line, shared_bytes_, nullptr);
      } else if (!line.starts_with('.')) {
        if (auto target = add_instruction(line)) branches.emplace_back(instructions_.size() - 1, *target);
      }
    }
    for (const auto& [index, label] : branches) {
      if (!labels.contains(label)) throw std::runtime_error("a branch to nowhere: " + label);
      instructions_[index].target = labels.at(label);
    }
  }

  Bind bind() const {
    return [this](dim3 grid, dim3 block, void** arguments) {
      Launch launch;
      launch.parameters.resize(parameter_bytes_);
      launch.shared.resize(shared_bytes_);
      for (size_t i = 0; i < parameters_.size(); ++i) {
        std::memcpy(launch.parameters.data() + parameters_[i].offset, arguments[i], parameters_[i].bytes);
      }
      return [this, grid, block, launch] {
        Launch running = launch;  // a recorded one may run again
        try {
          run(grid.x, block.x, running);
        } catch (const std::exception& error) {
          fake_gpu_violation(name_ + ", thread " + std::to_string(running.thread) + ": " + error.what());
        }
      };
    };
  }

 private:
  struct Symbol {
    size_t offset = 0;
    size_t bytes = 0;
  };
  struct Thread {
    Slots slots;
    size_t at = 0;
    bool ended = false;
  };

  static const Instructions& instructions() {
    static const Instructions all;
    return all;
  }

  // Without comments and what ends them.
  static std::vector<std::string> lines(const std::string& text) {
    std::vector<std::string> result;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) {
      line = line.substr(0, line.find("//"));
      const size_t begin = line.find_first_not_of(" \t");
      const size_t end = line.find_last_not_of(" \t;,\r");
      if (begin != std::string::npos && end != std::string::npos && end >= begin) {
        result.push_back(line.substr(begin, end - begin + 1));
      }
    }
    return result;
  }

  // ".param .align 8 .b8 name[16]", ".param .u32 name"
  void add_symbol(const std::string& line, size_t& all_bytes, std::vector<Symbol>* list) {
    std::istringstream in(line);
    std::string word;
    std::string type;
    size_t alignment = 0;
    in >> word;  // .param or .shared
    while (in >> word && word.starts_with('.')) {
      if (word == ".align") {
        in >> alignment;
      } else if (type.empty()) {
        type = word;
      }
    }
    size_t bytes = std::stoul(type.substr(2)) / 8;
    if (alignment == 0) alignment = bytes;
    if (const size_t bracket = word.find('['); bracket != std::string::npos) {
      bytes *= std::stoul(word.substr(bracket + 1));
      word.resize(bracket);
    }
    const size_t offset = (all_bytes + alignment - 1) / alignment * alignment;
    all_bytes = offset + bytes;
    add_slot(word, offset);
    if (list != nullptr) list->push_back({offset, bytes});
  }

  int add_slot(const std::string& operand, uint64_t value) {
    const auto [found, added] = slots_.emplace(operand, static_cast<int>(initial_.size()));
    if (added) initial_.push_back(value);
    return found->second;
  }
  // Of a register, a symbol that was declared, or a constant.
  int slot(const std::string& operand) {
    const auto found = slots_.find(operand);
    if (found != slots_.end()) return found->second;
    if (operand.starts_with('%') && operand.find_first_of(".|") != std::string::npos) {
      throw std::runtime_error("a register that is not known here: " + operand);
    }
    return add_slot(operand, operand.starts_with('%') ? ~uint64_t{0} : constant(operand));
  }
  static uint64_t constant(const std::string& text) {
    const bool negative = text.starts_with('-');
    const bool of_bits = text.starts_with("0f") || text.starts_with("0d") || text.starts_with("0x");
    const char* begin = text.data() + (of_bits ? 2 : negative ? 1 : 0);
    uint64_t value = 0;
    const char* end = text.data() + text.size();
    const auto parsed = std::from_chars(begin, end, value, of_bits ? 16 : 10);
    if (parsed.ec != std::errc() || parsed.ptr != end) throw std::runtime_error("neither symbol nor constant: " + text);
    return negative ? 0 - value : value;
  }

  // Gives the label of a branch.
  std::optional<std::string> add_instruction(std::string line) {
    Instruction instruction;
    if (line.starts_with('@')) {
      instruction.when = line[1] != '!';
      const size_t end = line.find(' ');
      instruction.predicate = slot(line.substr(instruction.when ? 1 : 2, end - (instruction.when ? 1 : 2)));
      line = line.substr(line.find_first_not_of(" \t", end));
    }
    const size_t end = std::min(line.find_first_of(" \t"), line.size());
    const std::string name = line.substr(0, end);
    std::optional<std::string> label;
    if (name == "ret") {
      instruction.kind = Instruction::Kind::kReturn;
    } else if (name == "bar.sync" && line.ends_with("\t0")) {
      instruction.kind = Instruction::Kind::kBarrier;
    } else if (name == "bra" || name == "bra.uni") {
      instruction.kind = Instruction::Kind::kBranch;
      label = line.substr(line.find_first_not_of(" \t", end));
    } else {
      Places places;
      int64_t offset = 0;
      std::string operands = line.substr(end);
      std::ranges::replace_if(
          operands, [](char c) { return c == ',' || c == '{' || c == '}' || c == '\t'; }, ' ');
      std::istringstream in(operands);
      for (std::string operand; in >> operand;) {
        if (operand.starts_with('[')) {
          operand = operand.substr(1, operand.size() - 2);
          if (const size_t plus = operand.find('+'); plus != std::string::npos) {
            offset = std::stoll(operand.substr(plus + 1));
            operand.resize(plus);
          }
        }
        places.push_back(slot(operand));
      }
      instruction.run = instructions().named(name)(places, offset);
    }
    instructions_.push_back(std::move(instruction));
    return label;
  }

  // To the next barrier, or the end.
  void run(Thread& thread, Launch& launch) const {
    for (;;) {
      const Instruction& next = instructions_.at(thread.at++);
      if (next.predicate >= 0 && (thread.slots[static_cast<size_t>(next.predicate)] != 0) != next.when) continue;
      switch (next.kind) {
        case Instruction::Kind::kRun:
          next.run(thread.slots.data(), launch);
          break;
        case Instruction::Kind::kBranch:
          thread.at = next.target;
          break;
        case Instruction::Kind::kBarrier:
          return;
        case Instruction::Kind::kReturn:
          thread.at = instructions_.size();
          thread.ended = true;
          return;
      }
    }
  }

  void run(unsigned blocks, unsigned threads, Launch& launch) const {
    std::vector<Thread> all(threads);
    for (unsigned block = blocks; block-- > 0;) {
      std::ranges::fill(launch.shared, std::byte{0xff});
      for (unsigned number = 0; number < threads; ++number) {
        Thread& thread = all[number];
        thread.slots = initial_;  // in the memory that it has
        thread.at = 0;
        thread.ended = false;
        const auto set = [&](const char* name, unsigned value) {
          thread.slots[static_cast<size_t>(slots_.at(name))] = value;
        };
        set("%tid.x", number);
        set("%ctaid.x", block);
        set("%nctaid.x", blocks);
      }
      while (!all.front().ended) {
        for (unsigned number = threads; number-- > 0;) {
          launch.thread = static_cast<int64_t>(block) * threads + number;
          run(all[number], launch);
          if (all[number].at != all.back().at || all[number].ended != all.back().ended) {
            throw std::runtime_error("waits where others do not");
          }
        }
        launch.of_shared.expect_no_race(Space::kShared);
      }
    }
    launch.of_global.expect_no_race(Space::kGlobal);
  }

  std::string name_;
  std::map<std::string, int> slots_;
  Slots initial_;
  std::vector<Symbol> parameters_;
  size_t parameter_bytes_ = 0;
  size_t shared_bytes_ = kSharedBegin;
  std::vector<Instruction> instructions_;
};

}  // namespace

std::map<std::string, Bind> kernels_of_ptx(const std::string& path) {
  std::ifstream in(path);
  std::ostringstream read;
  read << in.rdbuf();
  const std::string text = read.str();
  if (!in || text.empty()) throw std::runtime_error("cannot read " + path);
  std::map<std::string, Bind> kernels;
  constexpr std::string_view kEntry = ".entry ";
  for (size_t at = text.find(kEntry); at != std::string::npos; at = text.find(kEntry, at)) {
    const size_t begin = at + kEntry.size();
    const size_t open = text.find('(', begin);
    const size_t close = text.find(")\n", open);
    const size_t body = text.find("\n{", close);
    const size_t end = text.find("\n}", body);
    if (end == std::string::npos) throw std::runtime_error(path + " ends within a kernel");
    const std::string name = text.substr(begin, open - begin);
    // Read when it is first launched: a file has hundreds.
    kernels[name] = [name, parameters = text.substr(open + 1, close - open - 1),
                     code = text.substr(body + 2, end - body - 2),
                     kernel = std::shared_ptr<PtxKernel>()](dim3 grid, dim3 block, void** arguments) mutable {
      if (!kernel) {
        try {
          kernel = std::make_shared<PtxKernel>(name, parameters, code);
        } catch (const std::exception& error) {
          fake_gpu_violation(name + ": " + error.what());
          return std::function<void()>([] {});
        }
      }
      return kernel->bind()(grid, block, arguments);
    };
    at = end;
  }
  return kernels;
}

}  // namespace fake_gpu
