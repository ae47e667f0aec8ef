// SPDX-License-Identifier: Apache-2.0
#include "backends/onednn/layout.h"

#include <stdexcept>

#include "backends/onednn/kernels.h"

namespace triphase {

using dnnl::memory;

namespace {

memory::data_type data_type(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return memory::data_type::f32;
    case DType::kBF16:
      return memory::data_type::bf16;
    case DType::kF16:
      return memory::data_type::f16;
    case DType::kS32:
      return memory::data_type::s32;
    case DType::kU8:
      return memory::data_type::u8;
  }
  throw std::logic_error("an unknown dtype");
}

Shape row_major_strides(const Shape& shape) {
  Shape strides(shape.size(), 1);
  for (size_t d = shape.size() - 1; d-- > 0;) strides[d] = strides[d + 1] * shape[d + 1];
  return strides;
}

// Whether blocks of one size lie at the same places.
bool lies_alike(const memory::desc& a, const memory::desc& b) {
  return a.get_dims() == b.get_dims() && a.get_strides() == b.get_strides() &&
         a.get_padded_dims() == b.get_padded_dims();
}

}  // namespace

memory::desc row_major(const TensorType& type) {
  const Shape shape = type.shape.empty() ? Shape{1} : type.shape;
  return {shape, data_type(type.dtype), row_major_strides(shape)};
}

memory::desc column_major(const TensorType& type) {
  return {type.shape, data_type(type.dtype), memory::dims{1, type.shape[0]}};
}

memory::desc vector_of(int64_t count, DType dtype) { return {memory::dims{count}, data_type(dtype), memory::dims{1}}; }

memory::desc any_layout(const TensorType& type) { return {type.shape, data_type(type.dtype), memory::format_tag::any}; }

std::optional<memory::desc> same_order(const memory::desc& desc, DType dtype) {
  if (desc.get_inner_nblks() == 0) return memory::desc(desc.get_dims(), data_type(dtype), desc.get_strides());
  if (desc.get_ndims() != 4) return {};
  using Tag = memory::format_tag;
  for (const Tag tag : {Tag::ABcd16b16a, Tag::Acdb16a, Tag::ABcd8b8a, Tag::Acdb8a}) {
    const memory::desc candidate(desc.get_dims(), data_type(dtype), tag);
    const bool same = candidate.get_inner_blks() == desc.get_inner_blks() &&
                      candidate.get_inner_idxs() == desc.get_inner_idxs() && lies_alike(candidate, desc);
    if (same) return candidate;
  }
  return {};
}

bool has_paired_rows(const memory::desc& rows, const memory::desc& paired) {
  const memory::dims blocks = rows.get_inner_blks();
  const memory::dims dimensions = rows.get_inner_idxs();
  if (blocks.size() != 2 || blocks[0] % 2 != 0 || blocks[1] != kPairedRow || !lies_alike(rows, paired)) return false;
  return paired.get_inner_blks() == memory::dims{blocks[0] / 2, blocks[1], 2} &&
         paired.get_inner_idxs() == memory::dims{dimensions[0], dimensions[1], dimensions[0]};
}

Layout::Layout(const memory::desc& desc) : desc_(desc), shape_(desc.get_dims()) {
  const memory::dims strides = desc.get_strides();
  const memory::dims blocks = desc.get_inner_blks();
  const memory::dims block_dimension = desc.get_inner_idxs();
  // Within a block the last entry varies fastest; a dimension may stand in several entries (as in 16b64a4b).
  std::vector<int64_t> block_stride(blocks.size(), 1);
  for (size_t b = blocks.size(); b-- > 1;) block_stride[b - 1] = block_stride[b] * blocks[b];
  for (size_t d = 0; d < shape_.size(); ++d) {
    std::vector<int64_t> terms(static_cast<size_t>(shape_[d]));
    for (int64_t i = 0; i < shape_[d]; ++i) {
      int64_t rest = i;
      int64_t offset = 0;
      for (size_t b = blocks.size(); b-- > 0;) {
        if (block_dimension[b] != static_cast<int64_t>(d)) continue;
        offset += rest % blocks[b] * block_stride[b];
        rest /= blocks[b];
      }
      terms[static_cast<size_t>(i)] = offset + rest * strides[d];
    }
    terms_.push_back(std::move(terms));
  }
}

int64_t Layout::stored_elements() const {
  return bytes() / static_cast<int64_t>(memory::data_type_size(desc_.get_data_type()));
}

int64_t Layout::offset(int64_t index) const {
  int64_t offset = 0;
  for (size_t d = shape_.size(); d-- > 0;) {
    offset += terms_[d][static_cast<size_t>(index % shape_[d])];
    index /= shape_[d];
  }
  return offset;
}

bool Layout::is_row_major() const {
  const Shape strides = row_major_strides(shape_);
  for (size_t d = 0; d < shape_.size(); ++d) {
    for (size_t i = 0; i < terms_[d].size(); ++i) {
      if (terms_[d][i] != static_cast<int64_t>(i) * strides[d]) return false;
    }
  }
  return stored_elements() == element_count(shape_);
}

}  // namespace triphase
