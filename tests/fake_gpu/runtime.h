// SPDX-License-Identifier: Apache-2.0
// CUDA's runtime without a GPU, linked in its place: the GPU backend, as it is compiled for a GPU, then runs anywhere.
// It is as strict as CUDA, or stricter:
//
//   - What is put on a stream runs when somebody waits for it, and no sooner; a copy to the host waits.
//   - Device memory cannot be touched by the host, but by what runs on the stream; behind each allocation is a page
//     that nobody may touch; new memory is full of NaNs.
//   - While a stream is captured, what may not be captured fails, and so does a kernel that was never launched before.
//   - Whatever is destroyed must live, and what lives is counted.
//
// A kernel runs the source that the GPU runs, thread after thread; where it reads memory of the host, nobody can tell.
// With FAKE_GPU_PTX in the environment, the path of what nvcc made of the kernels, it runs that instead, slower, and is
// stricter yet (ptx.h); with FAKE_GPU_WIDE_PTX, the variants that count in 64 bits.
//
// The device's clock counts what ran: kOperation_s each, and kLaunch_s before what was not captured, so that every time
// is exact.
//
// With FAKE_GPU_IDLE in the environment nothing is computed; the clock goes on, and what is large costs nothing.
//
// A call may be told to fail, by fail() or by FAKE_GPU_FAIL="<call, or *>:<which, from 1 on>:<status>".
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace fake_gpu {

constexpr double kOperation_s = 1e-3;
constexpr double kLaunch_s = 5e-4;  // of one operation, or of one graph
constexpr int64_t kMemoryBytes = int64_t{16} << 30;
constexpr int64_t kL2Bytes = int64_t{64} << 10;

// Calls so far; those of the libraries count too.
int64_t calls();
// The `which`-th call from now on, of `call` or of all ("*"), fails with `status`, and does nothing. One that loses the
// device makes all later ones fail too.
void fail(const std::string& call, int64_t which, int status);
// Nothing fails any more, and a lost device is back.
void mend();

// Of all that was allocated, made or begun, what is still there.
struct Living {
  int64_t bytes = 0;
  int64_t streams = 0, events = 0, graphs = 0;
  int64_t objects = 0;  // of the libraries
  bool operator==(const Living&) const = default;
};
Living living();

// What was done that CUDA does not allow, whether or not the caller looked at the status.
std::vector<std::string> violations();

}  // namespace fake_gpu

// For libraries that stand in for NVIDIA's, which find these in the program that loads them.
extern "C" {
// What `call` shall answer instead of doing anything; 0 if nothing.
int fake_gpu_failure(const char* call);
// Puts `run` on the stream, as one operation that takes so long. Returns a status.
cudaError_t fake_gpu_enqueue(cudaStream_t stream, const char* what, double seconds, std::function<void()> run);
bool fake_gpu_captures(cudaStream_t stream);
// Whether these bytes lie in one allocation of the device.
bool fake_gpu_holds(const void* data, int64_t bytes);
void fake_gpu_violation(const std::string& what);
// A library's object, from when it is made until it is destroyed.
void fake_gpu_made(const void* object);
void fake_gpu_destroyed(const void* object);
}
