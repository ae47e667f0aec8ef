// SPDX-License-Identifier: Apache-2.0
// Where elements lie in oneDNN's memories, held against oneDNN itself: a reorder from row-major puts each element where
// Layout says.
#include "backends/onednn/layout.h"

#include <gtest/gtest.h>

#include <atomic>
#include <numeric>
#include <set>
#include <vector>

#include "backends/onednn/kernels.h"

namespace triphase {
namespace {

using dnnl::memory;
using tag = memory::format_tag;

struct Case {
  const char* name;
  Shape shape;
  tag format;
};

// Extents that do not fill their blocks are padded.
const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {"vector", {7}, tag::a},
      {"vector_of_one", {1}, tag::a},
      {"matrix", {5, 3}, tag::ab},
      {"matrix_transposed", {5, 3}, tag::ba},
      {"matrix_of_one_column", {5, 1}, tag::ba},
      {"matrix_of_one_row", {1, 5}, tag::ba},
      {"matrix_AB16b16a", {40, 33}, tag::AB16b16a},
      {"matrix_AB16b64a", {70, 20}, tag::AB16b64a},
      {"matrix_BA16a16b", {40, 33}, tag::BA16a16b},
      {"cube_acb", {3, 4, 5}, tag::acb},
      {"cube_nCw16c", {2, 20, 5}, tag::nCw16c},
      {"plane_nchw", {2, 5, 4, 3}, tag::nchw},
      {"plane_nhwc", {2, 5, 4, 3}, tag::nhwc},
      {"plane_chwn", {2, 5, 4, 3}, tag::chwn},
      {"plane_nChw8c", {2, 16, 3, 4}, tag::nChw8c},
      {"plane_nChw8c_padded", {2, 11, 3, 4}, tag::nChw8c},
      {"plane_nChw16c", {2, 32, 3, 4}, tag::nChw16c},
      {"plane_nChw16c_padded", {3, 21, 2, 5}, tag::nChw16c},
      {"plane_nChw16c_one_channel", {2, 1, 3, 3}, tag::nChw16c},
      {"plane_NChw16n16c", {17, 20, 2, 3}, tag::NChw16n16c},
      {"weights_oihw", {6, 4, 3, 2}, tag::oihw},
      {"weights_hwio", {6, 4, 3, 2}, tag::hwio},
      {"weights_OIhw16i16o", {32, 16, 3, 3}, tag::OIhw16i16o},
      {"weights_OIhw16i16o_padded", {20, 19, 3, 2}, tag::OIhw16i16o},
      {"weights_OIhw16o16i_padded", {20, 19, 3, 2}, tag::OIhw16o16i},
      {"weights_OIhw8i16o2i", {20, 19, 2, 2}, tag::OIhw8i16o2i},
      {"weights_OIhw4i16o4i", {20, 19, 2, 2}, tag::OIhw4i16o4i},
      {"weights_Ohwi16o", {20, 3, 7, 7}, tag::Ohwi16o},
      {"weights_grouped", {2, 3, 4, 3, 2}, tag::goihw},
      {"weights_gOIhw16i16o", {2, 20, 17, 2, 3}, tag::gOIhw16i16o},
      {"weights_Goihw16g", {20, 1, 1, 3, 3}, tag::Goihw16g},
  };
  return all;
}

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class Layouts : public testing::TestWithParam<Case> {
 protected:
  memory::desc desc() const { return {GetParam().shape, memory::data_type::f32, GetParam().format}; }
  int64_t count() const { return element_count(GetParam().shape); }
};

// The elements 1, 2, 3 ... as oneDNN's reorder places them; padding holds 0.
std::vector<float> reordered(const Shape& shape, const memory::desc& to) {
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  std::vector<float> from(static_cast<size_t>(element_count(shape)));
  std::iota(from.begin(), from.end(), 1.0F);
  std::vector<float> result(to.get_size() / sizeof(float), -1.0F);
  memory source(row_major({shape, DType::kF32}), engine, from.data());
  memory target(to, engine, result.data());
  dnnl::reorder(source, target).execute(stream, source, target);
  stream.wait();
  return result;
}

// Calls f(index, offset) for every element of every run.
template <class F>
void for_each(const Layout& layout, F f) {
  layout.for_each_run([&](const Layout::Run& run) {
    for (int64_t i = 0; i < run.count; ++i) {
      f(run.first + i * run.stride, run.base + (run.terms != nullptr ? run.terms[i] : i));
    }
  });
}

TEST_P(Layouts, offsets_are_where_a_reorder_puts_the_elements) {
  const Layout layout(desc());
  const std::vector<float> placed = reordered(GetParam().shape, desc());
  ASSERT_EQ(layout.stored_elements(), static_cast<int64_t>(placed.size()));
  ASSERT_EQ(layout.bytes(), static_cast<int64_t>(desc().get_size()));
  for (int64_t i = 0; i < count(); ++i) {
    const int64_t offset = layout.offset(i);
    ASSERT_GE(offset, 0);
    ASSERT_LT(offset, layout.stored_elements());
    ASSERT_EQ(placed[static_cast<size_t>(offset)], static_cast<float>(i + 1)) << "element " << i;
  }
}

TEST_P(Layouts, runs_visit_every_element_once_at_its_offset) {
  const Layout layout(desc());
  std::vector<std::atomic<int>> visits(static_cast<size_t>(count()));
  std::atomic<int> misplaced = 0;
  for_each(layout, [&](int64_t index, int64_t offset) {
    ++visits[static_cast<size_t>(index)];
    misplaced += offset != layout.offset(index);
  });
  EXPECT_EQ(misplaced, 0);
  for (size_t i = 0; i < visits.size(); ++i) EXPECT_EQ(visits[i], 1) << "element " << i;
}

TEST_P(Layouts, are_row_major_just_where_offsets_are_indices_and_nothing_is_padded) {
  const Layout layout(desc());
  bool same = layout.stored_elements() == count();
  for (int64_t i = 0; i < count(); ++i) same = same && layout.offset(i) == i;
  EXPECT_EQ(layout.is_row_major(), same);
}

INSTANTIATE_TEST_SUITE_P(Onednn, Layouts, testing::ValuesIn(cases()), [](const auto& test) { return test.param.name; });

TEST(Layout, plain_formats_are_row_major_and_others_not) {
  const auto is_row_major = [](const Shape& shape, tag format) {
    return Layout({shape, memory::data_type::f32, format}).is_row_major();
  };
  EXPECT_TRUE(is_row_major({7}, tag::a));
  EXPECT_TRUE(is_row_major({5, 3}, tag::ab));
  EXPECT_TRUE(is_row_major({2, 5, 4, 3}, tag::nchw));
  EXPECT_FALSE(is_row_major({5, 3}, tag::ba));
  EXPECT_FALSE(is_row_major({2, 5, 4, 3}, tag::nhwc));
  EXPECT_FALSE(is_row_major({2, 16, 4, 3}, tag::nChw16c));
  EXPECT_TRUE(is_row_major({2, 5, 1, 1}, tag::nhwc)) << "a plane of one element";
  EXPECT_TRUE(is_row_major({5, 1}, tag::ba)) << "a matrix of one column";
  EXPECT_TRUE(is_row_major({2, 16, 1, 1}, tag::nChw16c)) << "one full block";
  EXPECT_FALSE(is_row_major({2, 15, 1, 1}, tag::nChw16c)) << "one block with padding";
}

TEST(Layout, row_major_of_a_scalar_is_a_vector_of_one) {
  const Layout layout(row_major({{}, DType::kF32}));
  EXPECT_EQ(layout.bytes(), 4);
  EXPECT_EQ(layout.offset(0), 0);
  EXPECT_TRUE(layout.is_row_major());
}

TEST(Layout, bytes_follow_the_element_type) {
  EXPECT_EQ(Layout(row_major({{3, 5}, DType::kF32})).bytes(), 60);
  EXPECT_EQ(Layout(row_major({{3, 5}, DType::kS32})).bytes(), 60);
  EXPECT_EQ(Layout(row_major({{3, 5}, DType::kU8})).bytes(), 15);
  EXPECT_EQ(Layout(row_major({{3, 5}, DType::kU8})).stored_elements(), 15);
}

TEST(Layout, column_major_puts_rows_side_by_side) {
  const Layout layout(column_major({{3, 5}}));
  for (int64_t r = 0; r < 3; ++r) {
    for (int64_t c = 0; c < 5; ++c) EXPECT_EQ(layout.offset(r * 5 + c), c * 3 + r);
  }
  EXPECT_EQ(layout.stored_elements(), 15);
  EXPECT_FALSE(layout.is_row_major());
}

TEST(Layout, padded_channels_are_stored_and_not_visited) {
  const Layout layout({{2, 5, 3, 3}, memory::data_type::f32, tag::nChw16c});
  EXPECT_EQ(layout.stored_elements(), 2 * 16 * 3 * 3);
  std::atomic<int64_t> visited = 0;
  for_each(layout, [&](int64_t, int64_t) { ++visited; });
  EXPECT_EQ(visited, 2 * 5 * 3 * 3);
  EXPECT_EQ(layout.offset(9), 1) << "the next channel lies beside";
  EXPECT_EQ(layout.offset(1), 16) << "the next pixel a block further";
}

TEST(Layout, a_vector_is_dense) {
  const Layout layout(vector_of(9));
  EXPECT_EQ(layout.bytes(), 36);
  EXPECT_TRUE(layout.is_row_major());
}

TEST(SameOrder, of_another_type_puts_every_element_where_it_was) {
  for (const tag format : {tag::abcd, tag::acdb, tag::ABcd16b16a, tag::Acdb16a, tag::ABcd8b8a, tag::Acdb8a}) {
    const memory::desc narrow({20, 40, 3, 2}, memory::data_type::bf16, format);
    const auto wide = same_order(narrow, DType::kF32);
    ASSERT_TRUE(wide);
    EXPECT_EQ(wide->get_data_type(), memory::data_type::f32);
    for (int64_t i = 0; i < 20 * 40 * 3 * 2; ++i) ASSERT_EQ(Layout(*wide).offset(i), Layout(narrow).offset(i));
  }
  EXPECT_FALSE(same_order({{20, 40, 3, 2}, memory::data_type::bf16, tag::ABcd8b16a2b}, DType::kF32));
}

TEST(PairedRows, are_what_interleaved_rows_become) {
  const memory::dims shape = {20, 40, 3, 2};
  const memory::desc rows(shape, memory::data_type::bf16, tag::ABcd16b16a);
  const memory::desc paired(shape, memory::data_type::bf16, tag::ABcd8b16a2b);
  EXPECT_TRUE(has_paired_rows(rows, paired));
  const Layout from(rows);
  const Layout to(paired);
  std::vector<BF16> data(static_cast<size_t>(from.stored_elements()));
  const auto at = [&](int64_t offset) -> uint16_t& { return data[static_cast<size_t>(offset)].bits; };
  for (int64_t i = 0; i < 20 * 40 * 3 * 2; ++i) at(from.offset(i)) = static_cast<uint16_t>(i + 1);
  interleave_rows(data.data(), from.stored_elements());
  for (int64_t i = 0; i < 20 * 40 * 3 * 2; ++i) ASSERT_EQ(at(to.offset(i)), i + 1);
}

TEST(PairedRows, are_not_what_lies_otherwise) {
  const auto desc = [](tag format) { return memory::desc({32, 32, 3, 3}, memory::data_type::bf16, format); };
  for (const tag other : {tag::abcd, tag::ABcd16b16a, tag::ABcd8a16b2a, tag::ABcd4b16a4b}) {
    EXPECT_FALSE(has_paired_rows(desc(tag::ABcd16b16a), desc(other)));
  }
  EXPECT_FALSE(has_paired_rows(desc(tag::abcd), desc(tag::ABcd8b16a2b)));
  EXPECT_FALSE(has_paired_rows({{64, 32, 3, 3}, memory::data_type::bf16, tag::ABcd16b16a}, desc(tag::ABcd8b16a2b)));
}

}  // namespace
}  // namespace triphase
