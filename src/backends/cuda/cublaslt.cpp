// SPDX-License-Identifier: Apache-2.0
// cuBLASLt's matrices are column-major: what we store as [r, c] is its [c, r], with leading dimension c. So y = op(a)
// op(b) is asked for as its transpose, D = op(A) op(B):
//
//   D = y          [n, m], leading dimension n
//   A = b as stored, [n, k], or [k, n] if b is transposed, which is then transposed again
//   B = a as stored, [k, m], or [m, k] if a is transposed, which is then transposed again
//
// Its bias has an element a row of D, as ours has one a column of y. BGRADB sums its op(B), our op(a), over k: an
// element a column of D, a row of y.
#include "backends/cuda/cublaslt.h"

#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <map>
#include <type_traits>
#include <utility>
#include <vector>

#include "backends/cuda/library.h"
#include "backends/cuda/status.h"
#include "backends/cuda/tuning.h"

namespace triphase::cuda {
namespace {

constexpr int kMostAlgorithms = 8;
constexpr size_t kMostWorkspaceBytes = 32 << 20;
constexpr size_t kSumsOneRow = 120304;  // the first version that gives the bias gradient of a batch of one
constexpr int64_t kAlignment = 256;     // at which operands start, and what the library takes for granted

// What an algorithm must not do. With f32, use tensor cores: they do not multiply it, but what it was rounded to or
// split into. All else multiplies the inputs as they are, whatever types an algorithm says that it can read. Other
// types are what tensor cores are for; that sums are in f32 follows from the compute type.
uint64_t forbidden(Precision precision) {
  return precision == Precision::kF32 ? CUBLASLT_NUMERICAL_IMPL_FLAGS_TENSOR_OP_MASK : 0;
}

cudaDataType_t data_type(Precision precision) {
  switch (dtype_of(precision)) {
    case DType::kBF16:
      return CUDA_R_16BF;
    case DType::kF16:
      return CUDA_R_16F;
    default:
      return CUDA_R_32F;
  }
}

struct Candidate {
  cublasLtMatmulAlgo_t algorithm{};
  size_t workspace_bytes = 0;
};

using Key = std::array<int64_t, 7>;
Key key_of(const Product& product) {
  return {product.m,
          product.n,
          product.k,
          product.transpose_a,
          product.transpose_b,
          static_cast<int64_t>(product.epilogue),
          static_cast<int64_t>(product.precision)};
}

cublasLtEpilogue_t epilogue_of(const Product& product) {
  switch (product.epilogue) {
    case Epilogue::kNone:
      return CUBLASLT_EPILOGUE_DEFAULT;
    case Epilogue::kRelu:
      return CUBLASLT_EPILOGUE_RELU;
    case Epilogue::kBias:
      return CUBLASLT_EPILOGUE_BIAS;
    case Epilogue::kBiasRelu:
      return CUBLASLT_EPILOGUE_RELU_BIAS;
    case Epilogue::kBiasGradient:
      return CUBLASLT_EPILOGUE_BGRADB;
  }
  return CUBLASLT_EPILOGUE_DEFAULT;
}

bool has_bias(const Product& product) {
  return adds_bias(product.epilogue) || product.epilogue == Epilogue::kBiasGradient;
}

// "a product of 64x10x128 (m, n, k) in f32 with a transposed and a bias gradient"
std::string words_for(const Product& product) {
  std::string words = "a product of " + std::to_string(product.m) + "x" + std::to_string(product.n) + "x" +
                      std::to_string(product.k) + " (m, n, k) in " + std::string(to_string(product.precision));
  std::vector<std::string> parts;
  if (product.transpose_a) parts.push_back("a transposed");
  if (product.transpose_b) parts.push_back("b transposed");
  if (adds_bias(product.epilogue)) parts.push_back("a bias");
  if (does_relu(product.epilogue)) parts.push_back("a ReLU");
  if (product.epilogue == Epilogue::kBiasGradient) parts.push_back("a bias gradient");
  for (size_t i = 0; i < parts.size(); ++i) words += (i == 0 ? " with " : " and ") + parts[i];
  return words;
}

}  // namespace

// The library, its functions, a handle of it, and what was chosen for products so far.
struct CublasLt::Shared {
  Library library{"cuBLASLt", names_by_cuda("libcublasLt.so", CUDART_VERSION / 1000),
                  "install cuBLAS 13 or 12, or add its folder to LD_LIBRARY_PATH"};
  decltype(cublasLtCreate)* create = library.symbol<decltype(cublasLtCreate)>("cublasLtCreate");
  decltype(cublasLtDestroy)* destroy = library.symbol<decltype(cublasLtDestroy)>("cublasLtDestroy");
  decltype(cublasLtGetVersion)* get_version = library.symbol<decltype(cublasLtGetVersion)>("cublasLtGetVersion");
  decltype(cublasLtMatmul)* matmul = library.symbol<decltype(cublasLtMatmul)>("cublasLtMatmul");
  decltype(cublasLtMatmulAlgoGetHeuristic)* get_heuristic =
      library.symbol<decltype(cublasLtMatmulAlgoGetHeuristic)>("cublasLtMatmulAlgoGetHeuristic");
  decltype(cublasLtMatmulAlgoCapGetAttribute)* get_capability =
      library.symbol<decltype(cublasLtMatmulAlgoCapGetAttribute)>("cublasLtMatmulAlgoCapGetAttribute");
  decltype(cublasLtMatmulAlgoConfigGetAttribute)* get_config =
      library.symbol<decltype(cublasLtMatmulAlgoConfigGetAttribute)>("cublasLtMatmulAlgoConfigGetAttribute");
  decltype(cublasLtMatmulDescCreate)* create_desc =
      library.symbol<decltype(cublasLtMatmulDescCreate)>("cublasLtMatmulDescCreate");
  decltype(cublasLtMatmulDescDestroy)* destroy_desc =
      library.symbol<decltype(cublasLtMatmulDescDestroy)>("cublasLtMatmulDescDestroy");
  decltype(cublasLtMatmulDescSetAttribute)* set_desc =
      library.symbol<decltype(cublasLtMatmulDescSetAttribute)>("cublasLtMatmulDescSetAttribute");
  decltype(cublasLtMatrixLayoutCreate)* create_layout =
      library.symbol<decltype(cublasLtMatrixLayoutCreate)>("cublasLtMatrixLayoutCreate");
  decltype(cublasLtMatrixLayoutDestroy)* destroy_layout =
      library.symbol<decltype(cublasLtMatrixLayoutDestroy)>("cublasLtMatrixLayoutDestroy");
  decltype(cublasLtMatmulPreferenceCreate)* create_preference =
      library.symbol<decltype(cublasLtMatmulPreferenceCreate)>("cublasLtMatmulPreferenceCreate");
  decltype(cublasLtMatmulPreferenceDestroy)* destroy_preference =
      library.symbol<decltype(cublasLtMatmulPreferenceDestroy)>("cublasLtMatmulPreferenceDestroy");
  decltype(cublasLtMatmulPreferenceSetAttribute)* set_preference =
      library.symbol<decltype(cublasLtMatmulPreferenceSetAttribute)>("cublasLtMatmulPreferenceSetAttribute");
  cublasLtHandle_t handle = nullptr;
  std::map<Key, Candidate> chosen;

  Shared() { check(create(&handle), "cublasLtCreate"); }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;
  ~Shared() { destroy(handle); }
};

namespace {

// Something of cuBLASLt's that one of its functions made and another destroys.
template <class Opaque>
using Made = std::unique_ptr<Opaque, cublasStatus_t (*)(Opaque*)>;
using Desc = Made<std::remove_pointer_t<cublasLtMatmulDesc_t>>;
using MatrixLayout = Made<std::remove_pointer_t<cublasLtMatrixLayout_t>>;
using Preference = Made<std::remove_pointer_t<cublasLtMatmulPreference_t>>;

class ProductCall : public Call<ProductOperands> {
 public:
  ProductCall(std::shared_ptr<CublasLt::Shared> library, const Product& product, cudaStream_t stream)
      : library_(std::move(library)),
        product_(product),
        stream_(stream),
        desc_(make_desc()),
        a_(make_layout(product.transpose_b ? product.k : product.n, product.transpose_b ? product.n : product.k)),
        b_(make_layout(product.transpose_a ? product.m : product.k, product.transpose_a ? product.k : product.m)),
        d_(make_layout(product.n, product.m)) {
    set(CUBLASLT_MATMUL_DESC_TRANSA, product.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, product.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue_of(product));
    find_candidates();
  }

  std::string implementation() const override {
    const cublasLtMatmulAlgo_t& algorithm = candidates_.front().algorithm;
    return "cublaslt:algo" + config<int32_t>(algorithm, CUBLASLT_ALGO_CONFIG_ID) + "/tile" +
           config<uint32_t>(algorithm, CUBLASLT_ALGO_CONFIG_TILE_ID) + "/stages" +
           config<uint32_t>(algorithm, CUBLASLT_ALGO_CONFIG_STAGES_ID) + "/cluster" +
           config<uint16_t>(algorithm, CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID) + "/custom" +
           config<uint32_t>(algorithm, CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION) + "/splitk" +
           config<int32_t>(algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM);
  }

  int64_t workspace_bytes() const override {
    const Candidate& most = *std::ranges::max_element(candidates_, {}, &Candidate::workspace_bytes);
    return static_cast<int64_t>(most.workspace_bytes);
  }

  void tune(const ProductOperands& operands, std::byte* workspace) override {
    const auto known = library_->chosen.find(key_of(product_));
    const bool fits =
        known != library_->chosen.end() && known->second.workspace_bytes <= static_cast<size_t>(workspace_bytes());
    const Candidate best = fits ? known->second : fastest_candidate(operands, workspace);
    candidates_ = {best};
    library_->chosen.emplace(key_of(product_), best);
  }

  void run(const ProductOperands& operands, std::byte* workspace) override {
    launch(candidates_.front(), operands, workspace);
  }

 private:
  Desc make_desc() const {
    cublasLtMatmulDesc_t desc = nullptr;
    const bool rounds = product_.precision == Precision::kTF32;
    check(library_->create_desc(&desc, rounds ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F),
          "cublasLtMatmulDescCreate");
    return {desc, library_->destroy_desc};
  }

  MatrixLayout make_layout(int64_t rows, int64_t columns) const {
    cublasLtMatrixLayout_t layout = nullptr;
    check(library_->create_layout(&layout, data_type(product_.precision), static_cast<uint64_t>(rows),
                                  static_cast<uint64_t>(columns), rows),
          "cublasLtMatrixLayoutCreate");
    return {layout, library_->destroy_layout};
  }

  template <class Value>
  void set(cublasLtMatmulDescAttributes_t attribute, const Value& value) {
    check(library_->set_desc(desc_.get(), attribute, &value, sizeof value), "cublasLtMatmulDescSetAttribute");
  }

  void point_bias_at(const std::byte* bias) {
    if (bias == bias_ || !has_bias(product_)) return;
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    bias_ = bias;
  }

  Preference make_preference() const {
    cublasLtMatmulPreference_t made = nullptr;
    check(library_->create_preference(&made), "cublasLtMatmulPreferenceCreate");
    Preference preference(made, library_->destroy_preference);
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      check(library_->set_preference(made, attribute, &value, sizeof value), "cublasLtMatmulPreferenceSetAttribute");
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kMostWorkspaceBytes});
    prefer(CUBLASLT_MATMUL_PREF_IMPL_MASK, ~forbidden(product_.precision));
    if (is_narrow(dtype_of(product_.precision))) {  // parts of a sum are not rounded before they are added
      prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
    }
    return preference;
  }

  // The library's choice, best first by its own estimate.
  void find_candidates() {
    // Where the bias will be is not known; of an address the library wants to know the alignment alone.
    point_bias_at(reinterpret_cast<const std::byte*>(kAlignment));
    const Preference preference = make_preference();
    std::array<cublasLtMatmulHeuristicResult_t, kMostAlgorithms> results{};
    int count = 0;
    const cublasStatus_t status =
        library_->get_heuristic(library_->handle, desc_.get(), a_.get(), b_.get(), d_.get(), d_.get(), preference.get(),
                                kMostAlgorithms, results.data(), &count);
    if (status != CUBLAS_STATUS_NOT_SUPPORTED && status != CUBLAS_STATUS_INVALID_VALUE) {
      check(status, "cublasLtMatmulAlgoGetHeuristic");
      for (int i = 0; i < count; ++i) {
        const cublasLtMatmulHeuristicResult_t& result = results[static_cast<size_t>(i)];
        if (result.state != CUBLAS_STATUS_SUCCESS || does_forbidden(result.algo)) continue;
        candidates_.push_back({result.algo, workspace_of(result)});
      }
    }
    if (candidates_.empty()) {
      throw Unimplemented(
          words_for(product_) + ": cuBLASLt has no algorithm for it" +
          (status == CUBLAS_STATUS_SUCCESS ? "" : " (" + describe(status, "cublasLtMatmulAlgoGetHeuristic") + ")"));
    }
  }

  // NVIDIA's nvmath-python gives more than is asked for as well: with an epilogue, some versions take it.
  size_t workspace_of(const cublasLtMatmulHeuristicResult_t& result) const {
    const bool takes_more = result.workspaceSize > 0 && product_.epilogue != Epilogue::kNone;
    return result.workspaceSize + (takes_more ? kAlignment : 0);
  }

  // Should the library have let one pass.
  bool does_forbidden(const cublasLtMatmulAlgo_t& algorithm) const {
    uint64_t flags = 0;
    size_t written = 0;
    const cublasStatus_t status =
        library_->get_capability(&algorithm, CUBLASLT_ALGO_CAP_NUMERICAL_IMPL_FLAGS, &flags, sizeof flags, &written);
    return status == CUBLAS_STATUS_SUCCESS && (flags & forbidden(product_.precision)) != 0;
  }

  // A number of the library's; "?" where this algorithm has none.
  template <class Value>
  std::string config(const cublasLtMatmulAlgo_t& algorithm, cublasLtMatmulAlgoConfigAttributes_t attribute) const {
    Value value = 0;
    size_t written = 0;
    const cublasStatus_t status = library_->get_config(&algorithm, attribute, &value, sizeof value, &written);
    return status == CUBLAS_STATUS_SUCCESS ? std::to_string(value) : "?";
  }

  void launch(const Candidate& candidate, const ProductOperands& operands, std::byte* workspace) {
    constexpr float kOne = 1;
    constexpr float kZero = 0;
    point_bias_at(operands.bias);
    check(library_->matmul(library_->handle, desc_.get(), &kOne, operands.b, a_.get(), operands.a, b_.get(), &kZero,
                           operands.y, d_.get(), operands.y, d_.get(), &candidate.algorithm, workspace,
                           candidate.workspace_bytes, stream_),
          "cublasLtMatmul");
  }

  Candidate fastest_candidate(const ProductOperands& operands, std::byte* workspace) {
    std::vector<Piece> ways;
    for (const Candidate& candidate : candidates_) ways.push_back([&] { launch(candidate, operands, workspace); });
    return candidates_[fastest(stream_, ways, words_for(product_) + ": none of cuBLASLt's algorithms runs")];
  }

  std::shared_ptr<CublasLt::Shared> library_;
  Product product_;
  cudaStream_t stream_;
  Desc desc_;
  MatrixLayout a_, b_, d_;
  const std::byte* bias_ = nullptr;    // at which the descriptor points
  std::vector<Candidate> candidates_;  // never empty; the first runs
};

}  // namespace

CublasLt::CublasLt() : shared_(std::make_shared<Shared>()) {}

std::string CublasLt::version() const {
  const size_t number = shared_->get_version();  // 130100: 13.1.0
  return std::to_string(number / 10000) + "." + std::to_string(number / 100 % 100) + "." + std::to_string(number % 100);
}

std::unique_ptr<Call<ProductOperands>> CublasLt::prepare(const Product& product, cudaStream_t stream) {
  // What NVIDIA's nvmath-python refuses as well, and what its tests leave out.
  if (product.epilogue == Epilogue::kBiasGradient && product.k == 1 && shared_->get_version() < kSumsOneRow) {
    throw Unimplemented(words_for(product) + ": cuBLASLt before 12.3.4 gives a wrong one");
  }
  if (product.epilogue == Epilogue::kBiasGradient && product.m == 1) {
    throw Unimplemented(words_for(product) + ": cuBLASLt is not known to give that of a single output");
  }
  return std::make_unique<ProductCall>(shared_, product, stream);
}

}  // namespace triphase::cuda
