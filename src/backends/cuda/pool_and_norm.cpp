// SPDX-License-Identifier: Apache-2.0
// Pooling and batch normalisation.
#include "backends/cuda/compile.h"

namespace triphase::cuda {
namespace {

// A mean of many taps is shared by threads, unless as many means are computed as keep a GPU busy while each waits.
constexpr int64_t kManyTaps = 8;
constexpr int64_t kManyThreads = 1 << 15;

// Whether blocks of two by two inputs share their windows, two along each dimension at most.
bool in_blocks(const Window& window) {
  return window.stride == std::array<int64_t, 2>{2, 2} && window.kernel[0] <= 4 && window.kernel[1] <= 4;
}

}  // namespace

template <class F>
void CudaPlan::end_pool(int op, const Window& window, TensorId x, TensorId y, F make, ElementsOfPool elements) {
  const int64_t width = with_channels_together(x, []<int kWidth>() { return kWidth; });
  const kernels::Pooling pool = {{shape(x)[2], shape(x)[3]},
                                 {shape(y)[2], shape(y)[3]},
                                 {window.kernel[0], window.kernel[1]},
                                 {window.stride[0], window.stride[1]},
                                 {window.padding[0], window.padding[1]},
                                 lies_channels_last(x) ? channels(x) / width : 1,
                                 shape(x)[0] * (lies_channels_last(x) ? 1 : channels(x))};
  const TensorId result = op_at(op).outputs[0];
  end_elementwise(op, result, elements ? elements(pool) : count(result) / width, [=, this]<class T>() {
    return this->with_channels_together(
        x, [&]<int kWidth>() -> ElementKernel { return make.template operator()<T, kWidth>(pool); });
  });
}

void CudaPlan::compile_max_pool(int op, const Window& window) {
  const TensorId x = op_at(op).inputs[0];
  const TensorId y = op_at(op).outputs[0];
  const TensorId tap = op_at(op).outputs[1];
  begin({op});
  put(y);
  put(tap);
  end_pool(op, window, x, y, [=, this]<class T, int kWidth>(const kernels::Pooling& pool) -> ElementKernel {
    const auto kernel = [&]<class Tap, int kSide = 0>() {
      return kernels::MaxPool<T, Tap, kWidth, kSide>{pool, packs<T, kWidth>(x), packs<T, kWidth>(y),
                                                     packs<Tap, kWidth>(tap)};
    };
    if (dtype(tap) != DType::kU8) return kernel.template operator()<int32_t>();
    if (window.kernel == std::array<int64_t, 2>{2, 2}) return kernel.template operator()<uint8_t, 2>();
    if (window.kernel == std::array<int64_t, 2>{3, 3}) return kernel.template operator()<uint8_t, 3>();
    return kernel.template operator()<uint8_t>();
  });
}

void CudaPlan::compile_max_pool_backward(int op, const MaxPool2dBackward& kind) {
  const TensorId dy = op_at(op).inputs[0];
  const TensorId tap = op_at(op).inputs[1];
  const TensorId dx = op_at(op).outputs[0];
  begin({op});
  put(dx);
  if (in_blocks(kind.window)) {  // few taps: kept in eight bits
    return end_pool(
        op, kind.window, dx, dy,
        [=, this]<class T, int kWidth>(const kernels::Pooling& pool) -> ElementKernel {
          const auto along = [&](int d) { return kernels::blocks_along(pool, d); };
          return kernels::MaxPoolBackwardInBlocks<T, uint8_t, kWidth>{
              pool, {along(0), along(1)}, packs<T, kWidth>(dy), packs<uint8_t, kWidth>(tap), packs<T, kWidth>(dx)};
        },
        [](const kernels::Pooling& pool) {
          return pool.planes * kernels::blocks_along(pool, 0) * kernels::blocks_along(pool, 1) * int64_t{pool.inner};
        });
  }
  end_pool(op, kind.window, dx, dy, [=, this]<class T, int kWidth>(const kernels::Pooling& pool) -> ElementKernel {
    const auto kernel = [&]<class Tap>() {
      return kernels::MaxPoolBackward<T, Tap, kWidth>{pool, packs<T, kWidth>(dy), packs<Tap, kWidth>(tap),
                                                      packs<T, kWidth>(dx)};
    };
    if (dtype(tap) == DType::kU8) return kernel.template operator()<uint8_t>();
    return kernel.template operator()<int32_t>();
  });
}

void CudaPlan::compile_average_pool(int op, const AvgPool2d& kind) {
  const TensorId x = op_at(op).inputs[0];
  const TensorId y = op_at(op).outputs[0];
  begin({op});
  put(y);
  const int64_t planes = count(y);
  const int64_t area = shape(x)[2] * shape(x)[3];
  const bool whole =
      kind.window.kernel == std::array{shape(x)[2], shape(x)[3]} && kind.window.padding == std::array<int64_t, 2>{};
  if (whole && area >= kManyTaps && planes < kManyThreads) {
    touch(x);
    touch(y);
    end(own(op_at(op).kind), [=, this] {
      with_float_type(dtype(x), [&]<class T>() {
        device_->launch(kernels::PlaneMean<T>{data<T>(x), data<T>(y), lies_channels_last(x) ? channels(x) : 1, area},
                        planes, area);
      });
    });
    return;
  }
  end_pool(op, kind.window, x, y, [=, this]<class T, int kWidth>(const kernels::Pooling& pool) {
    return kernels::AveragePool<T, kWidth>{pool, kind.count_include_pad, packs<T, kWidth>(x), packs<T, kWidth>(y)};
  });
}

void CudaPlan::compile_average_pool_backward(int op, const AvgPool2dBackward& kind) {
  const TensorId dy = op_at(op).inputs[0];
  const TensorId dx = op_at(op).outputs[0];
  begin({op});
  put(dx);
  end_pool(op, kind.pool.window, dx, dy, [=, this]<class T, int kWidth>(const kernels::Pooling& pool) {
    return kernels::AveragePoolBackward<T, kWidth>{pool, kind.pool.count_include_pad, packs<T, kWidth>(dy),
                                                   packs<T, kWidth>(dx)};
  });
}

void CudaPlan::compile_batch_norm(int op, const BatchNorm2d& kind) {
  const std::vector<TensorId> in = op_at(op).inputs;    // x, gamma, beta
  const std::vector<TensorId> out = op_at(op).outputs;  // y, mean, variance
  const TensorId x = in[0];
  begin({op});
  for (const TensorId id : out) put(id);
  for (const TensorId id : in) touch(id);
  for (const TensorId id : out) touch(id);
  touch(x);  // read twice
  const auto epsilon = static_cast<float>(kind.epsilon);
  end(own(op_at(op).kind), [=, this] {
    with_float_type(dtype(x), [&]<class T>() {
      device_->launch(kernels::Moments<T>{data<T>(x), data(out[1]), data(out[2]), channels(x), inner(x)}, channels(x),
                      count(x) / channels(x));
      with_channels_together(x, [&]<int kWidth>() {
        const auto parameters = [&](TensorId id) { return packs<float, kWidth>(id); };
        device_->launch(kernels::Normalise<T, kWidth>{packs<T, kWidth>(x), parameters(in[1]), parameters(in[2]),
                                                      parameters(out[1]), parameters(out[2]), packs<T, kWidth>(out[0]),
                                                      channels(x) / kWidth, inner(x), epsilon},
                        count(x) / kWidth);
      });
    });
  });
}

void CudaPlan::compile_batch_norm_backward(int op, const BatchNorm2dBackward& kind) {
  const std::vector<TensorId> in = op_at(op).inputs;    // dy, x, gamma, mean, variance
  const std::vector<TensorId> out = op_at(op).outputs;  // dgamma, dbeta, maybe dx
  const TensorId dy = in[0];
  const TensorId x = in[1];
  begin({op});
  put(out[0]);
  put(out[1]);
  if (kind.data_gradient) put_over(out[2], dy, op);
  for (const TensorId id : in) touch(id);
  for (const TensorId id : out) touch(id);
  if (kind.data_gradient) {
    touch(dy);  // these two are read twice
    touch(x);
  }
  const auto epsilon = static_cast<float>(kind.epsilon);
  const int64_t terms = count(x) / channels(x);
  end(own(op_at(op).kind), [=, this] {
    with_float_type(dtype(x), [&]<class T>() {
      device_->launch(kernels::NormaliseGradients<T>{data<T>(dy), data<T>(x), data(in[3]), data(in[4]), data(out[0]),
                                                     data(out[1]), channels(x), inner(x), epsilon},
                      channels(x), terms);
      if (out.size() < 3) return;
      with_channels_together(x, [&]<int kWidth>() {
        const auto parameters = [&](TensorId id) { return packs<float, kWidth>(id); };
        device_->launch(
            kernels::NormaliseBackward<T, kWidth>{packs<T, kWidth>(dy), packs<T, kWidth>(x), parameters(in[2]),
                                                  parameters(in[3]), parameters(in[4]), parameters(out[0]),
                                                  parameters(out[1]), packs<T, kWidth>(out[2]), channels(x) / kWidth,
                                                  inner(x), epsilon, 1 / static_cast<float>(terms)},
            count(x) / kWidth);
      });
    });
  });
}

// Replaced where they lie.
void CudaPlan::compile_running_statistics(int op, const RunningStatistics& kind) {
  const std::vector<TensorId> in = op_at(op).inputs;  // running mean and variance, those of the batch
  begin({op});
  for (size_t s = 0; s < 2; ++s) put(op_at(op).outputs[s], in[s]);
  for (const TensorId id : in) touch(id);
  for (const TensorId id : op_at(op).outputs) touch(id);
  const auto values = static_cast<double>(kind.count);
  const auto keep = static_cast<float>(1 - kind.momentum);
  const auto take = static_cast<float>(kind.momentum);
  const auto take_unbiased = static_cast<float>(kind.momentum * values / (values - 1));
  end(own(op_at(op).kind), [=, this] {
    device_->launch(
        kernels::Blend{{data(in[0]), data(in[2]), take}, {data(in[1]), data(in[3]), take_unbiased}, keep, count(in[0])},
        2 * count(in[0]));
  });
}

}  // namespace triphase::cuda
