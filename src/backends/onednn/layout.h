// SPDX-License-Identifier: Apache-2.0
// Where the elements of a tensor lie in a oneDNN memory: strided, or blocked and padded. In all of these the offset of
// an element is a sum of one term a dimension, so that a table a dimension says it all.
#pragma once

#include <dnnl.hpp>
#include <optional>
#include <vector>

#include "ops/ops.h"

namespace triphase {

// Row-major; a scalar is [1].
dnnl::memory::desc row_major(const TensorType& type);
// A [rows, columns] matrix with element (r, c) at c * rows + r.
dnnl::memory::desc column_major(const TensorType& type);

dnnl::memory::desc vector_of(int64_t count, DType dtype = DType::kF32);

// As a primitive likes best.
dnnl::memory::desc any_layout(const TensorType& type);

// The same order of elements of another type; absent for blocks that no convolution's weights have in f32.
std::optional<dnnl::memory::desc> same_order(const dnnl::memory::desc& desc, DType dtype);

// Whether blocks lie alike but for their rows of kPairedRow (kernels.h) elements, which `paired` has two and two
// interleaved element by element, as bf16's instructions want them.
bool has_paired_rows(const dnnl::memory::desc& rows, const dnnl::memory::desc& paired);

class Layout {
 public:
  explicit Layout(const dnnl::memory::desc& desc);

  const dnnl::memory::desc& desc() const { return desc_; }
  int64_t bytes() const { return static_cast<int64_t>(desc_.get_size()); }
  // Elements held, padding included.
  int64_t stored_elements() const;
  // The element offset of a row-major logical index.
  int64_t offset(int64_t index) const;
  // Whether elements lie as row_major() would put them.
  bool is_row_major() const;

  // A stretch of elements along one dimension: element i has the logical index first + i * stride and lies at
  // base + terms[i]; terms is null where that is base + i.
  struct Run {
    int64_t first, stride, base, count;
    const int64_t* terms;
  };

  // Calls f(run) until every element has come once, in parallel, along the dimension whose neighbours lie closest.
  template <class F>
  void for_each_run(F f) const;

 private:
  dnnl::memory::desc desc_;
  Shape shape_;                              // logical
  std::vector<std::vector<int64_t>> terms_;  // by dimension and index
};

template <class F>
void Layout::for_each_run(F f) const {
  const size_t rank = shape_.size();
  size_t inner = rank - 1;
  for (size_t d = 0; d < rank; ++d) {
    const auto step = [&](size_t i) { return shape_[i] > 1 ? terms_[i][1] : INT64_MAX; };
    if (step(d) < step(inner)) inner = d;
  }
  std::vector<int64_t> logical_stride(rank, 1);
  for (size_t d = rank - 1; d-- > 0;) logical_stride[d] = logical_stride[d + 1] * shape_[d + 1];
  const int64_t count = shape_[inner];
  const std::vector<int64_t>& terms = terms_[inner];
  bool contiguous = true;
  for (int64_t i = 0; i < count; ++i) contiguous = contiguous && terms[static_cast<size_t>(i)] == i;
  const int64_t runs = element_count(shape_) / count;
#pragma omp parallel for schedule(static)
  for (int64_t run = 0; run < runs; ++run) {
    int64_t rest = run;
    int64_t index = 0;
    int64_t base = 0;
    for (size_t d = rank; d-- > 0;) {
      if (d == inner) continue;
      const int64_t i = rest % shape_[d];
      rest /= shape_[d];
      index += i * logical_stride[d];
      base += terms_[d][static_cast<size_t>(i)];
    }
    f(Run{index, logical_stride[inner], base, count, contiguous ? nullptr : terms.data()});
  }
}

}  // namespace triphase
