// SPDX-License-Identifier: Apache-2.0
// A shared library in cuBLASLt's place, for programs that runtime.cpp is linked into. It multiplies column-major
// matrices in float64 as it is asked to, and knows of the library what the GPU backend uses; what the library would
// refuse, or compute wrongly, it refuses.
#include <cublasLt.h>

#include <cstring>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fake_gpu/elements.h"
#include "fake_gpu/runtime.h"

namespace {

using fake_gpu::aligned;
using fake_gpu::in_tf32;
using fake_gpu::kOperation_s;
using triphase::DType;
using triphase::load;
using triphase::store;

constexpr int64_t kAlignment = 256;  // of operands, as a preference says where nobody sets it

struct MatmulDesc {
  cublasComputeType_t compute{};
  cudaDataType_t scale{};
  cublasOperation_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  void* bias = nullptr;
};

struct Layout {
  cudaDataType_t type{};
  int64_t rows = 0, columns = 0, leading = 0;
};

struct Preference {
  uint64_t workspace_bytes = 0;
  uint64_t implementations = ~uint64_t{0};
  uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_MASK;
};

// Two that do, of which the first is slower; one that rounds operands, listed as the preference says, and one that is
// listed in spite of it; one that rounds parts of sums, for narrow types; one that does not run.
struct Algorithm {
  int32_t id;
  uint64_t workspace_bytes;
  uint64_t flags;
  double seconds;  // of a run
  bool runs = true;
  bool obeys = true;          // the preference
  bool rounds_parts = false;  // to the type of the output
};
constexpr uint64_t kExact = CUBLASLT_NUMERICAL_IMPL_FLAGS_FMA | CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_32F;
constexpr uint64_t kRounding = CUBLASLT_NUMERICAL_IMPL_FLAGS_HMMA | CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_TF32;
constexpr Algorithm kAlgorithms[] = {
    {.id = 10, .workspace_bytes = 4096, .flags = kExact, .seconds = 2 * kOperation_s},
    {.id = 11, .workspace_bytes = 0, .flags = kRounding, .seconds = kOperation_s / 2},
    {.id = 12, .workspace_bytes = 0, .flags = kExact, .seconds = kOperation_s, .runs = false},
    {.id = 13, .workspace_bytes = 256, .flags = kExact, .seconds = kOperation_s},
    {.id = 14, .workspace_bytes = 0, .flags = kRounding, .seconds = kOperation_s / 2, .obeys = false},
    {.id = 15, .workspace_bytes = 256, .flags = kExact, .seconds = kOperation_s / 4, .rounds_parts = true},
};

const Algorithm* algorithm_of(const cublasLtMatmulAlgo_t& opaque) {
  for (const Algorithm& algorithm : kAlgorithms) {
    if (opaque.data[0] == static_cast<uint64_t>(algorithm.id)) return &algorithm;
  }
  return nullptr;
}

// Of the types that are offered.
std::optional<DType> dtype_of(cudaDataType_t type) {
  switch (type) {
    case CUDA_R_32F:
      return DType::kF32;
    case CUDA_R_16BF:
      return DType::kBF16;
    case CUDA_R_16F:
      return DType::kF16;
    default:
      return {};
  }
}
int64_t width(cudaDataType_t type) { return triphase::size_in_bytes(dtype_of(type).value_or(DType::kF32)); }

bool adds_bias(cublasLtEpilogue_t epilogue) {
  return epilogue == CUBLASLT_EPILOGUE_BIAS || epilogue == CUBLASLT_EPILOGUE_RELU_BIAS;
}

// What is wrong with D = op(A) op(B) of these; empty if nothing.
std::string fault_of(const MatmulDesc& desc, const Layout& a, const Layout& b, const Layout& d) {
  const auto of_op = [](const Layout& of, cublasOperation_t op) {
    return op == CUBLAS_OP_N ? std::pair(of.rows, of.columns) : std::pair(of.columns, of.rows);
  };
  const auto [a_rows, a_columns] = of_op(a, desc.transpose_a);
  const auto [b_rows, b_columns] = of_op(b, desc.transpose_b);
  if (a_columns != b_rows || a_rows != d.rows || b_columns != d.columns) return "shapes that do not fit";
  if (a.type != b.type || a.type != d.type || !dtype_of(a.type)) return "types that are not offered together";
  if (desc.scale != CUDA_R_32F) return "a scale that is not f32";
  const bool fast = desc.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  if (!fast && desc.compute != CUBLAS_COMPUTE_32F) return "a compute type that is not offered";
  if (fast && a.type != CUDA_R_32F) return "TF32 of narrower types";
  for (const Layout* layout : {&a, &b, &d}) {
    if (layout->leading < layout->rows || layout->rows <= 0 || layout->columns <= 0) return "a leading dimension";
  }
  switch (desc.epilogue) {
    case CUBLASLT_EPILOGUE_DEFAULT:
    case CUBLASLT_EPILOGUE_RELU:
      return "";
    case CUBLASLT_EPILOGUE_BIAS:
    case CUBLASLT_EPILOGUE_RELU_BIAS:
    case CUBLASLT_EPILOGUE_BGRADB:
      if (desc.epilogue == CUBLASLT_EPILOGUE_BGRADB && d.columns == 1) return "a bias gradient of one output";
      return desc.bias == nullptr || !aligned(desc.bias, kAlignment) ? "a bias that is not there, or not aligned" : "";
    default:
      return "an epilogue that is not offered";
  }
}

// op(X) of a matrix in memory, or its transpose, row-major.
std::vector<double> unpacked(const void* data, const Layout& of, bool columns_first, bool rounds) {
  std::vector<double> values(static_cast<size_t>(of.rows * of.columns));
  for (int64_t column = 0; column < of.columns; ++column) {
    for (int64_t row = 0; row < of.rows; ++row) {
      const double value = load(data, *dtype_of(of.type), row + column * of.leading);
      const int64_t to = columns_first ? column * of.rows + row : row * of.columns + column;
      values[static_cast<size_t>(to)] = rounds ? in_tf32(value) : value;
    }
  }
  return values;
}

void multiply(const Algorithm& algorithm, const MatmulDesc& desc, const Layout& a_layout, const void* a,
              const Layout& b_layout, const void* b, const Layout& d_layout, void* d) {
  const bool rounds = (algorithm.flags & CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_TF32) != 0;
  const int64_t depth = desc.transpose_a == CUBLAS_OP_N ? a_layout.columns : a_layout.rows;
  const DType dtype = *dtype_of(d_layout.type);
  // Both such that what is summed lies side by side.
  const std::vector<double> op_a = unpacked(a, a_layout, desc.transpose_a != CUBLAS_OP_N, rounds);
  const std::vector<double> op_b = unpacked(b, b_layout, desc.transpose_b == CUBLAS_OP_N, rounds);
  for (int64_t j = 0; j < d_layout.columns; ++j) {
    const double* of_b = op_b.data() + j * depth;
    for (int64_t i = 0; i < d_layout.rows; ++i) {
      const double* of_a = op_a.data() + i * depth;
      const double bias = adds_bias(desc.epilogue) ? load(desc.bias, dtype, i) : 0;
      const int64_t half = algorithm.rounds_parts ? depth / 2 : 0;
      const double part = triphase::rounded(std::inner_product(of_a, of_a + half, of_b, 0.0), dtype);
      double sum = std::inner_product(of_a + half, of_a + depth, of_b + half, bias + part);
      if ((desc.epilogue & CUBLASLT_EPILOGUE_RELU) != 0 && sum < 0) sum = 0;
      store(d, dtype, i + j * d_layout.leading, sum);
    }
    if (desc.epilogue == CUBLASLT_EPILOGUE_BGRADB) store(desc.bias, dtype, j, std::accumulate(of_b, of_b + depth, 0.0));
  }
}

int64_t bytes_of(const Layout& layout) {
  return ((layout.columns - 1) * layout.leading + layout.rows) * width(layout.type);
}

// Whether these bytes are the device's; if not, the caller has done what would go wrong on a GPU.
bool expect_on_device(const void* data, int64_t bytes, const char* what) {
  if (fake_gpu_holds(data, bytes)) return true;
  fake_gpu_violation(std::string("cublasLtMatmul: ") + what + " is not in device memory");
  return false;
}

template <class F>
cublasStatus_t call(const char* name, F does) {
  const int failure = fake_gpu_failure(name);
  return failure != 0 ? static_cast<cublasStatus_t>(failure) : does();
}

template <class T>
cublasStatus_t set(T& to, const void* from, size_t bytes) {
  if (bytes != sizeof to) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&to, from, bytes);
  return CUBLAS_STATUS_SUCCESS;
}
template <class T>
cublasStatus_t get(const T& from, void* to, size_t bytes, size_t* written) {
  if (bytes < sizeof from) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(to, &from, sizeof from);
  if (written != nullptr) *written = sizeof from;
  return CUBLAS_STATUS_SUCCESS;
}

template <class Handle, class T>
cublasStatus_t make(Handle* handle, T* made) {
  fake_gpu_made(made);
  *handle = reinterpret_cast<Handle>(made);
  return CUBLAS_STATUS_SUCCESS;
}
template <class T, class Handle>
cublasStatus_t destroy(Handle handle) {
  fake_gpu_destroyed(handle);
  delete reinterpret_cast<T*>(handle);
  return CUBLAS_STATUS_SUCCESS;
}

template <class T, class Handle>
T& as(Handle handle) {
  return *reinterpret_cast<T*>(handle);
}
template <class T, class Handle>
const T& as_const(Handle handle) {
  return *reinterpret_cast<const T*>(handle);
}

}  // namespace

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  return call("cublasLtCreate", [&] { return make(handle, new int); });
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) { return destroy<int>(handle); }
size_t cublasLtGetVersion() { return 130100; }

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc, cublasComputeType_t compute, cudaDataType_t scale) {
  return call("cublasLtMatmulDescCreate",
              [&] { return make(desc, new MatmulDesc{.compute = compute, .scale = scale}); });
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) { return destroy<MatmulDesc>(desc); }
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  return call("cublasLtMatmulDescSetAttribute", [&] {
    auto& of = as<MatmulDesc>(desc);
    switch (attribute) {
      case CUBLASLT_MATMUL_DESC_TRANSA:
        return set(of.transpose_a, value, bytes);
      case CUBLASLT_MATMUL_DESC_TRANSB:
        return set(of.transpose_b, value, bytes);
      case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return set(of.epilogue, value, bytes);
      case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        return set(of.bias, value, bytes);
      default:
        return CUBLAS_STATUS_INVALID_VALUE;
    }
  });
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType_t type, uint64_t rows,
                                          uint64_t columns, int64_t leading) {
  return call("cublasLtMatrixLayoutCreate", [&] {
    return make(layout, new Layout{type, static_cast<int64_t>(rows), static_cast<int64_t>(columns), leading});
  });
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) { return destroy<Layout>(layout); }

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  return call("cublasLtMatmulPreferenceCreate", [&] { return make(preference, new Preference); });
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  return destroy<Preference>(preference);
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    size_t bytes) {
  return call("cublasLtMatmulPreferenceSetAttribute", [&] {
    auto& of = as<Preference>(preference);
    switch (attribute) {
      case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        return set(of.workspace_bytes, value, bytes);
      case CUBLASLT_MATMUL_PREF_IMPL_MASK:
        return set(of.implementations, value, bytes);
      case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
        return set(of.reductions, value, bytes);
      default:
        return CUBLAS_STATUS_INVALID_VALUE;
    }
  });
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                              cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t preference, int most,
                                              cublasLtMatmulHeuristicResult_t results[], int* count) {
  return call("cublasLtMatmulAlgoGetHeuristic", [&] {
    *count = 0;
    const auto& limits = as_const<Preference>(preference);
    if (c != d) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!fault_of(as_const<MatmulDesc>(desc), as_const<Layout>(a), as_const<Layout>(b), as_const<Layout>(d)).empty()) {
      return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    for (const Algorithm& algorithm : kAlgorithms) {
      if (algorithm.rounds_parts && as_const<Layout>(d).type == CUDA_R_32F) continue;
      const bool parts = !algorithm.rounds_parts || (limits.reductions & CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE) != 0;
      const bool allowed = parts && (!algorithm.obeys || (algorithm.flags & ~limits.implementations) == 0);
      if (*count == most || !allowed || algorithm.workspace_bytes > limits.workspace_bytes) continue;
      cublasLtMatmulHeuristicResult_t& result = results[(*count)++];
      result = {};
      result.algo.data[0] = static_cast<uint64_t>(algorithm.id);
      result.workspaceSize = algorithm.workspace_bytes;
      result.state = CUBLAS_STATUS_SUCCESS;
    }
    return *count > 0 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
  });
}

cublasStatus_t cublasLtMatmulAlgoCapGetAttribute(const cublasLtMatmulAlgo_t* algo,
                                                 cublasLtMatmulAlgoCapAttributes_t attribute, void* value, size_t bytes,
                                                 size_t* written) {
  const Algorithm* algorithm = algorithm_of(*algo);
  if (algorithm == nullptr || attribute != CUBLASLT_ALGO_CAP_NUMERICAL_IMPL_FLAGS) return CUBLAS_STATUS_INVALID_VALUE;
  return get(algorithm->flags, value, bytes, written);
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t* algo,
                                                    cublasLtMatmulAlgoConfigAttributes_t attribute, void* value,
                                                    size_t bytes, size_t* written) {
  const Algorithm* algorithm = algorithm_of(*algo);
  if (algorithm == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  if (attribute == CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID) return get(uint16_t{2}, value, bytes, written);
  if (attribute != CUBLASLT_ALGO_CONFIG_ID) return CUBLAS_STATUS_INVALID_VALUE;
  return get(algorithm->id, value, bytes, written);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
                              const void* beta, const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algo, void* workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
  return call("cublasLtMatmul", [&] {
    const auto of = as_const<MatmulDesc>(desc);
    const auto a_as = as_const<Layout>(a_layout);
    const auto b_as = as_const<Layout>(b_layout);
    const auto d_as = as_const<Layout>(d_layout);
    const Algorithm* algorithm = algorithm_of(*algo);
    if (algorithm == nullptr || c != d || c_layout != d_layout) return CUBLAS_STATUS_INVALID_VALUE;
    if (*static_cast<const float*>(alpha) != 1 || *static_cast<const float*>(beta) != 0) {
      return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (const std::string fault = fault_of(of, a_as, b_as, d_as); !fault.empty()) {
      fake_gpu_violation("cublasLtMatmul: " + fault);
      return CUBLAS_STATUS_INVALID_VALUE;
    }
    // With an epilogue some versions take a little more than they have said.
    const int64_t beyond = of.epilogue == CUBLASLT_EPILOGUE_DEFAULT ? 0 : 16;
    const int64_t needed =
        algorithm->workspace_bytes == 0 ? 0 : static_cast<int64_t>(algorithm->workspace_bytes) + beyond;
    if (static_cast<int64_t>(workspace_bytes) < needed) return CUBLAS_STATUS_INVALID_VALUE;
    bool good = expect_on_device(a, bytes_of(a_as), "A") && expect_on_device(b, bytes_of(b_as), "B") &&
                expect_on_device(d, bytes_of(d_as), "D");
    if (needed > 0)
      good = good && expect_on_device(workspace, needed, "the workspace") && aligned(workspace, kAlignment);
    if (adds_bias(of.epilogue)) good = good && expect_on_device(of.bias, d_as.rows * width(d_as.type), "the bias");
    if (of.epilogue == CUBLASLT_EPILOGUE_BGRADB) {
      good = good && expect_on_device(of.bias, d_as.columns * width(d_as.type), "the bias's gradient");
    }
    for (const void* operand : {a, b, static_cast<const void*>(d)}) {
      if (aligned(operand, kAlignment)) continue;
      fake_gpu_violation("cublasLtMatmul: an operand that is not aligned");
      good = false;
    }
    if (!good) return CUBLAS_STATUS_INVALID_VALUE;
    if (!algorithm->runs) return CUBLAS_STATUS_NOT_SUPPORTED;
    std::string name = "cublasLtMatmul by algorithm";
    for (const int part : {int{algorithm->id}, int{of.compute}, int{a_as.type}, int{of.transpose_a},
                           int{of.transpose_b}, int{of.epilogue}}) {
      name += " " + std::to_string(part);
    }
    const cudaError_t status = fake_gpu_enqueue(stream, name.c_str(), algorithm->seconds, [=] {
      if (needed > 0) std::memset(workspace, 0xff, static_cast<size_t>(needed));
      multiply(*algorithm, of, a_as, a, b_as, b, d_as, d);
    });
    if (status != cudaSuccess) return CUBLAS_STATUS_EXECUTION_FAILED;
    return CUBLAS_STATUS_SUCCESS;
  });
}
}
