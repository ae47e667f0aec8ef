// SPDX-License-Identifier: Apache-2.0
// The own products of a linear layer against sums in float64, element by element, over shapes on either side of every
// tile, vector, panel and chunk. Which of them a plan runs is timed, so that plans alone would not test them all.
#include "backends/onednn/products.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <functional>
#include <memory>
#include <random>

namespace triphase {
namespace {

using Buffer = std::unique_ptr<float[], decltype(&std::free)>;

// Aligned as a plan's memory is, and full of what a forgotten store would leave behind.
Buffer buffer(int64_t count) {
  const auto bytes = static_cast<size_t>((count + 16) * 4 + 63) / 64 * 64;
  Buffer data(static_cast<float*>(std::aligned_alloc(64, bytes)), &std::free);
  std::fill_n(data.get(), bytes / 4, std::nanf(""));
  return data;
}

Buffer random_buffer(int64_t count, std::mt19937& engine) {
  Buffer data = buffer(count);
  std::uniform_real_distribution<float> values(-1, 1);
  for (int64_t i = 0; i < count; ++i) data[static_cast<size_t>(i)] = values(engine);
  return data;
}

// found[i] = sum of terms(i, d) over d < depth, within float32's rounding of such a sum.
void expect_sums(const float* found, int64_t count, int64_t depth, const std::function<double(int64_t, int64_t)>& terms,
                 const std::string& what) {
  for (int64_t i = 0; i < count; ++i) {
    double sum = 0;
    double magnitude = 0;
    for (int64_t d = 0; d < depth; ++d) {
      sum += terms(i, d);
      magnitude += std::abs(terms(i, d));
    }
    const double bound = 1e-7 * (4 + std::sqrt(static_cast<double>(depth))) * magnitude;
    ASSERT_NEAR(found[i], sum, bound) << what << " element " << i;
  }
  ASSERT_TRUE(std::isnan(found[count])) << what << " wrote beyond its end";
}

void expect_products(const ProductShape& shape, int threads) {
  const auto [rows, inputs, features] = shape;
  const std::string name = std::to_string(rows) + "x" + std::to_string(inputs) + "x" + std::to_string(features);
  std::mt19937 engine(1);
  omp_set_num_threads(threads);
  const Buffer x = random_buffer(rows * inputs, engine);
  const Buffer w = random_buffer(inputs * features, engine);
  const Buffer b = random_buffer(features, engine);
  const Buffer dy = random_buffer(rows * features, engine);
  const Buffer scratch = buffer(product_scratch(shape, threads));
  const auto at = [](const Buffer& data, int64_t i) { return static_cast<double>(data[static_cast<size_t>(i)]); };
  const auto count = inputs;
  const auto width = features;

  const Buffer y = buffer(rows * features);
  product_forward(shape, x.get(), w.get(), b.get(), false, y.get(), scratch.get());
  expect_sums(
      y.get(), rows * width, count + 1,
      [&](int64_t i, int64_t c) {
        return c == count ? at(b, i % width) : at(x, i / width * count + c) * at(w, c * width + i % width);
      },
      name + " forward");
  const Buffer positive = buffer(rows * features);
  product_forward(shape, x.get(), w.get(), b.get(), true, positive.get(), scratch.get());
  for (int64_t i = 0; i < rows * features; ++i) ASSERT_EQ(at(positive, i), std::max(at(y, i), 0.0)) << name << " relu";

  const Buffer dx = buffer(rows * inputs);
  product_backward_data(shape, dy.get(), w.get(), dx.get(), scratch.get());
  expect_sums(
      dx.get(), rows * count, width,
      [&](int64_t i, int64_t k) { return at(dy, i / count * width + k) * at(w, i % count * width + k); },
      name + " backward data");

  for (const Stores stores : {Stores::kCached, Stores::kStreaming}) {
    const Buffer dw = buffer(inputs * features);
    const Buffer db = buffer(features);
    product_backward_weights(shape, x.get(), dy.get(), dw.get(), db.get(), stores, scratch.get());
    expect_sums(
        dw.get(), count * width, rows,
        [&](int64_t i, int64_t n) { return at(x, n * count + i / width) * at(dy, n * width + i % width); },
        name + " backward weights");
    expect_sums(
        db.get(), width, rows, [&](int64_t k, int64_t n) { return at(dy, n * width + k); }, name + " bias gradient");
  }
}

TEST(Products, agree_with_float64_over_few_and_many_rows_inputs_and_features) {
  if (!have_products()) GTEST_SKIP() << "no AVX-512";
  for (const int64_t rows : {1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 37}) {
    for (const int64_t inputs : {1, 3, 64, 131, 300}) {
      for (const int64_t features : {1, 10, 16, 48, 67, 128, 144}) expect_products({rows, inputs, features}, 2);
    }
  }
}

TEST(Products, agree_with_float64_where_panels_and_chunks_come_several_times) {
  if (!have_products()) GTEST_SKIP() << "no AVX-512";
  expect_products({17, 200, 1040}, 2);
  expect_products({1, 70, 2050}, 2);
  expect_products({300, 130, 33}, 3);
  expect_products({9, 65, 50}, 1);
}

}  // namespace
}  // namespace triphase
