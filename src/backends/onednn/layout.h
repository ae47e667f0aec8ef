// SPDX-License-Identifier: Apache-2.0
// Where the elements of a tensor lie in a oneDNN memory: strided, or blocked and padded. In all of these the offset of an
// element is a sum of one term a dimension, so that a table a dimension says it all.
#pragma once

#include <dnnl.hpp>
#include <vector>

#include "ops/ops.h"

namespace triphase {

// Row-major; a scalar is [1].
dnnl::memory::desc row_major(const TensorType& type);
// A [rows, columns] matrix with element (r, c) at c * rows + r.
dnnl::memory::desc column_major(const Shape& shape);

dnnl::memory::desc vector_of(int64_t count);

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

  // Calls f(logical index, offset) for every element, in parallel, in an order that suits the memory.
  template <class F>
  void for_each(F f) const;

 private:
  dnnl::memory::desc desc_;
  Shape shape_;                              // logical
  std::vector<std::vector<int64_t>> terms_;  // by dimension and index
};

template <class F>
void Layout::for_each(F f) const {
  const size_t rank = shape_.size();
  // The dimension whose neighbours lie closest goes innermost.
  size_t inner = rank - 1;
  for (size_t d = 0; d < rank; ++d) {
    const auto step = [&](size_t i) { return shape_[i] > 1 ? terms_[i][1] : INT64_MAX; };
    if (step(d) < step(inner)) inner = d;
  }
  std::vector<int64_t> logical_stride(rank, 1);
  for (size_t d = rank - 1; d-- > 0;) logical_stride[d] = logical_stride[d + 1] * shape_[d + 1];
  const int64_t rows = element_count(shape_) / shape_[inner];
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < rows; ++row) {
    int64_t rest = row;
    int64_t index = 0;
    int64_t base = 0;
    for (size_t d = rank; d-- > 0;) {
      if (d == inner) continue;
      const int64_t i = rest % shape_[d];
      rest /= shape_[d];
      index += i * logical_stride[d];
      base += terms_[d][static_cast<size_t>(i)];
    }
    for (int64_t i = 0; i < shape_[inner]; ++i) {
      f(index + i * logical_stride[inner], base + terms_[inner][static_cast<size_t>(i)]);
    }
  }
}

}  // namespace triphase
