// SPDX-License-Identifier: Apache-2.0
// The PTX that the fake GPU runs: what instructions compute at their edges, and that each violation is seen.
#include "fake_gpu/ptx.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <limits>
#include <stdexcept>
#include <vector>

#include "fake_gpu/runtime.h"

namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> violations;
alignas(16) std::byte memory[256];  // the device's

std::string file_of(const std::string& text) {
  const std::string path = testing::TempDir() + "ptx_test_" + std::to_string(getpid()) + ".ptx";
  std::ofstream(path) << text;
  return path;
}

std::string kernel(const std::string& body) {
  return R"(.version 9.0
.target sm_80
.address_size 64

	// .globl k
.entry k(
	.param .align 8 .b8 k_param_0[32],
	.param .u32 k_param_1
)
.maxntid 256, 1, 1
{
	.reg .b64 	%rd<9>;
	// demoted variable
	.shared .align 4 .b8 sums[16];

	mov.b64 	%rd1, k_param_0;
	ld.param.u64 	%rd2, [%rd1];
	ld.param.v2.u64 	{%rd3, %rd4}, [%rd1+16];
	mov.u32 	%r1, %tid.x;
	mul.wide.s32 	%rd5, %r1, 4;
	add.s64 	%rd6, %rd2, %rd5;
)" + body +
         R"(	ret;

}
)";
}

// What a body did with `memory`, as threads whose own words are at %rd6; %rd3 and %rd4 are a and b, %r9 is c. Returns
// the violations.
std::vector<std::string> run(const std::string& body, unsigned threads = 1, uint64_t a = 0, uint64_t b = 0,
                             uint32_t c = 0, unsigned blocks = 1) {
  violations.clear();
  const auto kernels = fake_gpu::kernels_of_ptx(file_of(kernel("	ld.param.u32 	%r9, [k_param_1];\n" + body)));
  struct {
    void* data = memory;
    uint64_t unused = 0;
    uint64_t a, b;
  } operands{.a = a, .b = b};
  void* arguments[] = {&operands, &c};
  kernels.at("k")(dim3(blocks), dim3(threads), arguments)();
  return violations;
}

// Of an instruction of %rd3, %rd4, %r9 into %rd8.
uint64_t result(const std::string& instruction, uint64_t a, uint64_t b = 0, uint32_t c = 0) {
  EXPECT_THAT(run("	" + instruction + ";\n	st.global.u64 	[%rd2], %rd8;\n", 1, a, b, c), IsEmpty())
      << instruction;
  uint64_t found = 0;
  std::memcpy(&found, memory, sizeof found);
  return found;
}
uint64_t bits(float value) { return std::bit_cast<uint32_t>(value); }
float result_f32(const std::string& instruction, float a, float b = 0, float c = 0) {
  return std::bit_cast<float>(
      static_cast<uint32_t>(result(instruction, bits(a), bits(b), static_cast<uint32_t>(bits(c)))));
}
uint32_t low(uint64_t value) { return static_cast<uint32_t>(value); }

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

TEST(Ptx, integers_wrap_and_shifts_are_clamped) {
  EXPECT_EQ(low(result("add.s32 %rd8, %rd3, %rd4", 0x7fffffff, 1)), 0x80000000u);
  EXPECT_EQ(low(result("sub.s32 %rd8, %rd3, 1", 0)), 0xffffffffu);
  EXPECT_EQ(low(result("mad.lo.s32 %rd8, %rd3, %rd4, %r9", 3, static_cast<uint32_t>(-2), 10)), 4u);
  EXPECT_EQ(low(result("mul.hi.u32 %rd8, %rd3, %rd4", 0xffffffff, 0x10)), 0xfu);
  EXPECT_EQ(result("mul.wide.s32 %rd8, %rd3, -8", 0xffffffff), 8u);
  EXPECT_EQ(result("mul.wide.u32 %rd8, %rd3, 8", 0xffffffff), 0x7fffffff8u);
  EXPECT_EQ(result("cvt.s64.s32 %rd8, %rd3", 0xfffffffe), static_cast<uint64_t>(-2));
  EXPECT_EQ(result("cvt.u64.u32 %rd8, %rd3", 0xfffffffe), 0xfffffffeu);
  EXPECT_EQ(low(result("shl.b32 %rd8, %rd3, %rd4", 1, 31)), 0x80000000u);
  EXPECT_EQ(low(result("shl.b32 %rd8, %rd3, %rd4", 1, 32)), 0u);
  EXPECT_EQ(low(result("shr.u32 %rd8, %rd3, %rd4", 0x80000000, 31)), 1u);
  EXPECT_EQ(low(result("shr.u32 %rd8, %rd3, %rd4", 0x80000000, 32)), 0u);
  EXPECT_EQ(low(result("shr.s32 %rd8, %rd3, %rd4", 0x80000000, 40)), 0xffffffffu);
  EXPECT_EQ(result("shr.s64 %rd8, %rd3, 63", uint64_t{1} << 63), ~uint64_t{0});
  EXPECT_EQ(static_cast<int64_t>(result("div.s64 %rd8, %rd3, %rd4", static_cast<uint64_t>(-7), 2)), -3);
  EXPECT_EQ(static_cast<int64_t>(result("rem.s64 %rd8, %rd3, %rd4", static_cast<uint64_t>(-7), 2)), -1);
  EXPECT_EQ(static_cast<int64_t>(result("div.s64 %rd8, %rd3, -1", 7)), -7);
  EXPECT_EQ(result("rem.s64 %rd8, %rd3, -1", uint64_t{1} << 63), 0u);
  EXPECT_EQ(low(result("prmt.b32 %rd8, %rd3, %rd4, 29524", 0x33221180, 0x77665544)), 0x77335544u);  // 0x7354
  EXPECT_EQ(low(result("prmt.b32 %rd8, %rd3, %rd4, 8", 0x33221180, 0)), 0x808080ffu);
}

TEST(Ptx, floats_round_and_know_nan) {
  EXPECT_EQ(result_f32("max.f32 %rd8, %rd3, %rd4", kNaN, 2), 2);
  EXPECT_EQ(result_f32("add.f32 %rd8, %rd3, 0f3F800000", 2), 3);
  EXPECT_EQ(result_f32("fma.rn.f32 %rd8, %rd3, %rd4, %r9", 1 + 0x1p-23f, 1 + 0x1p-23f, -1), 0x1p-22f + 0x1p-46f);
  EXPECT_EQ(result_f32("fma.rn.f32 %rd8, %rd3, %rd4, %r9", 1, 0x1p-30f, -1), -1);
  EXPECT_EQ(result_f32("fma.rm.f32 %rd8, %rd3, %rd4, %r9", -1, 0x1p-30f, -1), std::nextafter(-1.0f, -2.0f));
  EXPECT_EQ(result_f32("cvt.sat.f32.f32 %rd8, %rd3", kNaN), 0);
  EXPECT_EQ(result_f32("cvt.sat.f32.f32 %rd8, %rd3", 1.5f), 1);
  EXPECT_EQ(result_f32("ex2.approx.ftz.f32 %rd8, %rd3", -10), 0x1p-10f * (1 + 0x1p-22f));
  EXPECT_EQ(result_f32("ex2.approx.ftz.f32 %rd8, %rd3", -127), 0);
  EXPECT_EQ(result_f32("rsqrt.approx.f32 %rd8, %rd3", 16), 0.25f * (1 + 0x1p-23f));
  EXPECT_EQ(result("cvt.rn.bf16.f32 %rd8, %rd3", bits(1 + 0x1p-8f)) & 0xffff, 0x3f80u);  // a tie, to even
  EXPECT_EQ(result("cvt.rn.f16.f32 %rd8, %rd3", bits(1 + 0x1p-11f)) & 0xffff, 0x3c00u);  // a tie, to even
  EXPECT_EQ(result_f32("cvt.f32.f16 %rd8, %rd3", std::bit_cast<float>(0xc000u)), -2);
  const auto truth = [](const std::string& comparison, float a, float b) {
    return result(comparison + ".f32 %p1, %rd3, %rd4;\n	selp.b64 %rd8, 1, 0, %p1", bits(a), bits(b)) != 0;
  };
  for (const char* ordered : {"setp.eq", "setp.ne", "setp.lt", "setp.le", "setp.gt", "setp.ge"}) {
    EXPECT_FALSE(truth(ordered, kNaN, 1)) << ordered;
  }
  for (const char* unordered : {"setp.equ", "setp.neu", "setp.ltu", "setp.leu", "setp.gtu", "setp.geu"}) {
    EXPECT_TRUE(truth(unordered, 1, kNaN)) << unordered;
  }
  EXPECT_TRUE(truth("setp.leu", 1, 1));
  EXPECT_FALSE(truth("setp.leu", 2, 1));
}

// Three threads in each of two blocks, three steps each: 100 block + 10 thread + 3.
constexpr const char* kLoop = R"(	mov.u32 	%r2, %ctaid.x;
	mul.lo.s32 	%r3, %r2, 100;
	mad.lo.s32 	%r4, %r1, 10, %r3;
	mov.u32 	%r5, 0;

$L__BB0_1:
	.pragma "nounroll";
	add.s32 	%r4, %r4, 1;
	add.s32 	%r5, %r5, 1;
	setp.lt.u32 	%p1, %r5, 3;
	@%p1 bra 	$L__BB0_1;

	mul.wide.u32 	%rd7, %r2, 12;
	add.s64 	%rd6, %rd6, %rd7;
	st.global.u32 	[%rd6], %r4;
)";

TEST(Ptx, threads_and_blocks_have_their_numbers_and_branches_lead_where_they_should) {
  EXPECT_THAT(run(kLoop, 3, 0, 0, 0, 2), IsEmpty());
  std::vector<int32_t> found(6);
  std::memcpy(found.data(), memory, 24);
  EXPECT_THAT(found, ElementsAre(3, 13, 23, 103, 113, 123));
}

// Each writes its own word of shared memory and reads the next thread's.
std::string pass_on(const std::string& between) {
  return R"(	mov.u32 	%r2, sums;
	shl.b32 	%r3, %r1, 2;
	add.s32 	%r4, %r2, %r3;
	st.shared.u32 	[%r4], %r1;
)" + between +
         R"(	xor.b32 	%r5, %r3, 4;
	add.s32 	%r6, %r2, %r5;
	ld.shared.u32 	%r7, [%r6];
	st.global.u32 	[%rd6], %r7;
)";
}

TEST(Ptx, shared_memory_is_in_order_behind_a_barrier_and_races_without) {
  EXPECT_THAT(run(pass_on("	bar.sync 	0;\n"), 4), IsEmpty());
  std::vector<int32_t> found(4);
  std::memcpy(found.data(), memory, 16);
  EXPECT_THAT(found, ElementsAre(1, 0, 3, 2));
  EXPECT_THAT(run(pass_on(""), 4), ElementsAre(HasSubstr("race for shared memory")));
}

TEST(Ptx, global_memory_races_among_threads_and_blocks_where_one_writes) {
  const std::string shift = "	ld.global.u32 	%r2, [%rd6];\n	st.global.u32 	[%rd6+4], %r2;\n";
  EXPECT_THAT(run(shift, 1), IsEmpty());
  EXPECT_THAT(run(shift, 2), ElementsAre(HasSubstr("race for global memory")));
  EXPECT_THAT(run("	st.global.u32 	[%rd6], %r1;\n", 4), IsEmpty());
  EXPECT_THAT(run("	st.global.u32 	[%rd6], %r1;\n", 4, 0, 0, 0, 2), ElementsAre(HasSubstr("race for global")));
  EXPECT_THAT(run("	ld.global.u32 	%r2, [%rd2];\n", 4, 0, 0, 0, 2), IsEmpty());
  // A wide write over a narrow read that begins within it.
  EXPECT_THAT(run("	setp.eq.s32 	%p1, %r1, 0;\n	@%p1 st.global.v4.f32 	[%rd2], {%f1, %f1, %f1, %f1};\n"
                  "	@!%p1 ld.global.u32 	%r2, [%rd2+12];\n",
                  2),
              ElementsAre(HasSubstr("race for global memory")));
}

TEST(Ptx, what_a_gpu_could_not_do_is_a_violation) {
  EXPECT_THAT(run("	ld.global.u32 	%r2, [%rd2+2];\n"), ElementsAre(HasSubstr("no multiple")));
  EXPECT_THAT(run("	ld.global.v4.f32 	{%f1, %f2, %f3, %f4}, [%rd2+8];\n"),
              ElementsAre(HasSubstr("no multiple")));
  EXPECT_THAT(run("	ld.global.u32 	%r2, [%rd2+256];\n"), ElementsAre(HasSubstr("no allocation")));
  EXPECT_THAT(run("	ld.global.u32 	%r2, [%rd7];\n"), ElementsAre(HasSubstr("no ")));  // was never written
  EXPECT_THAT(run("	ld.param.u64 	%rd7, [%rd1+40];\n"), ElementsAre(HasSubstr("beyond its parameter memory")));
  EXPECT_THAT(run("	st.shared.u32 	[sums+16], %r1;\n"), ElementsAre(HasSubstr("beyond its shared memory")));
  EXPECT_THAT(run("	st.shared.v4.f32 	[sums], {%f1, %f1, %f1, %f1};\n"),
              ElementsAre(HasSubstr("no multiple")));
  EXPECT_THAT(run("	div.u32 	%r2, %r1, %r9;\n"), ElementsAre(HasSubstr("division by 0")));
  EXPECT_THAT(
      run("	setp.eq.s32 	%p1, %r1, 0;\n	@%p1 bra 	$L__BB0_2;\n	bar.sync 	0;\n\n$L__BB0_2:\n", 2),
      ElementsAre(HasSubstr("waits where others do not")));
}

TEST(Ptx, what_is_not_known_is_said) {
  EXPECT_THAT(run("	mma.sync.aligned 	%r2, %r1;\n"),
              ElementsAre(HasSubstr("not known here: mma.sync.aligned")));
  EXPECT_THAT(run("	add.s32 	%r2, %r1;\n"), ElementsAre(HasSubstr("number of operands")));
  EXPECT_THAT(run("	mov.u32 	%r2, %ntid.x;\n"), ElementsAre(HasSubstr("%ntid.x")));
  EXPECT_THAT(run("	setp.eq.s32 	%p1|%p2, %r1, 0;\n"), ElementsAre(HasSubstr("%p1|%p2")));
  EXPECT_THAT(run("	bar.sync 	1, 64;\n"), ElementsAre(HasSubstr("not known here: bar.sync")));
  EXPECT_THAT(run("	ld.global.u32 	%r2, [%rd2+4x];\n	add.s32 	%r2, %r2, 4294967296000000000000;\n"),
              ElementsAre(HasSubstr("neither symbol nor constant")));
  EXPECT_THAT(run("	bra.uni 	$L__BB0_7;\n"), ElementsAre(HasSubstr("$L__BB0_7")));
  EXPECT_THAT(run("	mov.u32 	%r2, 0q12;\n"), ElementsAre(HasSubstr("0q12")));
  EXPECT_THROW(fake_gpu::kernels_of_ptx("/nowhere"), std::runtime_error);
  EXPECT_THROW(fake_gpu::kernels_of_ptx(file_of("")), std::runtime_error);
  const std::string whole = kernel("");
  EXPECT_THROW(fake_gpu::kernels_of_ptx(file_of(whole.substr(0, whole.size() - 3))), std::runtime_error);
}

}  // namespace

bool fake_gpu_holds(const void* data, int64_t bytes) {
  const auto* at = static_cast<const std::byte*>(data);
  return at >= memory && at < memory + sizeof memory && bytes <= memory + sizeof memory - at;
}
void fake_gpu_violation(const std::string& what) { violations.push_back(what); }
