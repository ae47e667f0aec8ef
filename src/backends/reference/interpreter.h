// SPDX-License-Identifier: Apache-2.0
// Runs a StepProgram op by op in any scalar type: double for truth, Counted for the number of operations. It is written
// to be read, not to be fast: one loop nest an op, each sum in its natural order, padded taps skipped.
#pragma once

#include <cmath>
#include <type_traits>
#include <vector>

#include "core/counted.h"
#include "core/narrow.h"
#include "program/program.h"

namespace triphase {

inline int64_t to_index(double value) { return static_cast<int64_t>(value); }
inline int64_t to_index(Counted value) { return static_cast<int64_t>(value.value()); }

// A sum whose first term is no addition, so that K terms cost K - 1. Empty sums are 0.
template <class T>
class Sum {
 public:
  void add(T term) {
    value_ = empty_ ? term : value_ + term;
    empty_ = false;
  }
  T value() const { return value_; }

 private:
  T value_ = 0.0;
  bool empty_ = true;
};

template <class T>
class Interpreter {
 public:
  explicit Interpreter(const StepProgram& program) : program_(program), values_(program.tensors.size()) {}

  // A tensor's elements, row-major. Integers (targets, taps) are held as T.
  std::vector<T>& operator[](TensorId id) { return values_[static_cast<size_t>(id)]; }
  const std::vector<T>& operator[](TensorId id) const { return values_[static_cast<size_t>(id)]; }

  void run(const Op& op) {
    for (const TensorId id : op.outputs) {
      (*this)[id].assign(static_cast<size_t>(element_count(program_.tensor(id).type.shape)), T(0.0));
    }
    std::visit([&](const auto& kind) { execute(kind, op); }, op.kind);
    if constexpr (std::is_same_v<T, double>) round_outputs(op);
  }

  void run_all() {
    for (const Op& op : program_.ops) run(op);
  }

  // Parameters, states and statistics become what the step made of them.
  void advance() {
    for (TensorId id = 0; id < static_cast<TensorId>(program_.tensors.size()); ++id) {
      if (program_.tensor(id).next != kNoTensor) (*this)[id] = (*this)[program_.tensor(id).next];
    }
  }

 private:
  const Shape& shape(TensorId id) const { return program_.tensor(id).type.shape; }

  // f32 is not rounded to: it is what the truth is held against.
  void round_outputs(const Op& op) {
    for (const TensorId id : op.outputs) {
      const DType dtype = program_.tensor(id).type.dtype;
      if (!is_narrow(dtype)) continue;
      for (T& value : (*this)[id]) value = rounded(value, dtype);
    }
  }

  void execute(const MatMul& kind, const Op& op) {
    const auto& a = (*this)[op.inputs[0]];
    const auto& b = (*this)[op.inputs[1]];
    auto& y = (*this)[op.outputs[0]];
    const int64_t rows = shape(op.outputs[0])[0];
    const int64_t columns = shape(op.outputs[0])[1];
    const int64_t depth = shape(op.inputs[0])[kind.transpose_a ? 0 : 1];
    for (int64_t m = 0; m < rows; ++m) {
      for (int64_t n = 0; n < columns; ++n) {
        Sum<T> sum;
        for (int64_t k = 0; k < depth; ++k) {
          sum.add(a[kind.transpose_a ? k * rows + m : m * depth + k] *
                  b[kind.transpose_b ? n * depth + k : k * columns + n]);
        }
        y[m * columns + n] = sum.value();
      }
    }
  }

  // Calls f(element, channel) for every element of a [N, C, ...] tensor.
  template <class F>
  static void for_each_channel(const Shape& shape, F f) {
    const int64_t inner = element_count(shape) / (shape[0] * shape[1]);
    for (int64_t i = 0; i < element_count(shape); ++i) f(i, i / inner % shape[1]);
  }

  void execute(const AddBias&, const Op& op) {
    const auto& x = (*this)[op.inputs[0]];
    const auto& b = (*this)[op.inputs[1]];
    auto& y = (*this)[op.outputs[0]];
    for_each_channel(shape(op.inputs[0]), [&](int64_t i, int64_t c) { y[i] = x[i] + b[c]; });
  }

  void execute(const BiasGradient&, const Op& op) {
    const auto& dy = (*this)[op.inputs[0]];
    std::vector<Sum<T>> sums(static_cast<size_t>(shape(op.inputs[0])[1]));
    for_each_channel(shape(op.inputs[0]), [&](int64_t i, int64_t c) { sums[c].add(dy[i]); });
    for (size_t c = 0; c < sums.size(); ++c) (*this)[op.outputs[0]][c] = sums[c].value();
  }

  // Calls f(x index, w index, y index) for every multiply-accumulate whose tap lies inside x.
  template <class F>
  static void for_each_tap(const Conv2d& conv, const Shape& x, const Shape& w, const Shape& y, F f) {
    const Window& window = conv.window;
    const int64_t group_outputs = w[0] / conv.groups;
    for (int64_t n = 0; n < y[0]; ++n) {
      for (int64_t k = 0; k < y[1]; ++k) {
        for (int64_t oh = 0; oh < y[2]; ++oh) {
          for (int64_t ow = 0; ow < y[3]; ++ow) {
            for (int64_t c = 0; c < w[1]; ++c) {
              for (int64_t i = 0; i < w[2]; ++i) {
                for (int64_t j = 0; j < w[3]; ++j) {
                  const int64_t ih = oh * window.stride[0] - window.padding[0] + i * window.dilation[0];
                  const int64_t iw = ow * window.stride[1] - window.padding[1] + j * window.dilation[1];
                  if (ih < 0 || ih >= x[2] || iw < 0 || iw >= x[3]) continue;
                  const int64_t channel = k / group_outputs * w[1] + c;
                  f(((n * x[1] + channel) * x[2] + ih) * x[3] + iw, ((k * w[1] + c) * w[2] + i) * w[3] + j,
                    ((n * y[1] + k) * y[2] + oh) * y[3] + ow);
                }
              }
            }
          }
        }
      }
    }
  }

  // Writes sums[i] to every element of the op's first output.
  void store(const std::vector<Sum<T>>& sums, const Op& op) {
    for (size_t i = 0; i < sums.size(); ++i) (*this)[op.outputs[0]][i] = sums[i].value();
  }

  void execute(const Conv2d& kind, const Op& op) {
    const auto& x = (*this)[op.inputs[0]];
    const auto& w = (*this)[op.inputs[1]];
    std::vector<Sum<T>> y((*this)[op.outputs[0]].size());
    for_each_tap(kind, shape(op.inputs[0]), shape(op.inputs[1]), shape(op.outputs[0]),
                 [&](int64_t xi, int64_t wi, int64_t yi) { y[yi].add(x[xi] * w[wi]); });
    store(y, op);
  }

  void execute(const Conv2dBackwardData& kind, const Op& op) {
    const auto& dy = (*this)[op.inputs[0]];
    const auto& w = (*this)[op.inputs[1]];
    std::vector<Sum<T>> dx((*this)[op.outputs[0]].size());
    for_each_tap(kind.conv, shape(op.outputs[0]), shape(op.inputs[1]), shape(op.inputs[0]),
                 [&](int64_t xi, int64_t wi, int64_t yi) { dx[xi].add(dy[yi] * w[wi]); });
    store(dx, op);
  }

  void execute(const Conv2dBackwardWeights& kind, const Op& op) {
    const auto& dy = (*this)[op.inputs[0]];
    const auto& x = (*this)[op.inputs[1]];
    std::vector<Sum<T>> dw((*this)[op.outputs[0]].size());
    for_each_tap(kind.conv, shape(op.inputs[1]), shape(op.outputs[0]), shape(op.inputs[0]),
                 [&](int64_t xi, int64_t wi, int64_t yi) { dw[wi].add(dy[yi] * x[xi]); });
    store(dw, op);
  }

  void execute(const Relu&, const Op& op) {
    const auto& x = (*this)[op.inputs[0]];
    auto& y = (*this)[op.outputs[0]];
    for (size_t i = 0; i < x.size(); ++i) y[i] = x[i] > T(0.0) ? x[i] : T(0.0);
  }

  void execute(const ReluBackward&, const Op& op) {
    const auto& dy = (*this)[op.inputs[0]];
    const auto& y = (*this)[op.inputs[1]];
    auto& dx = (*this)[op.outputs[0]];
    for (size_t i = 0; i < y.size(); ++i) dx[i] = y[i] > T(0.0) ? dy[i] : T(0.0);
  }

  // Calls f(x index, y index, tap) for every tap inside x, windows in order, taps row-major.
  template <class F>
  static void for_each_window(const Window& window, const Shape& x, const Shape& y, F f) {
    for (int64_t plane = 0; plane < y[0] * y[1]; ++plane) {
      for (int64_t oh = 0; oh < y[2]; ++oh) {
        for (int64_t ow = 0; ow < y[3]; ++ow) {
          for (int64_t tap = 0; tap < window.kernel[0] * window.kernel[1]; ++tap) {
            const int64_t ih = oh * window.stride[0] - window.padding[0] + tap / window.kernel[1];
            const int64_t iw = ow * window.stride[1] - window.padding[1] + tap % window.kernel[1];
            if (ih < 0 || ih >= x[2] || iw < 0 || iw >= x[3]) continue;
            f((plane * x[2] + ih) * x[3] + iw, (plane * y[2] + oh) * y[3] + ow, tap);
          }
        }
      }
    }
  }

  void execute(const MaxPool2d& kind, const Op& op) {
    const auto& x = (*this)[op.inputs[0]];
    auto& y = (*this)[op.outputs[0]];
    auto& taps = (*this)[op.outputs[1]];
    std::vector<char> started(y.size());
    for_each_window(kind.window, shape(op.inputs[0]), shape(op.outputs[0]), [&](int64_t xi, int64_t yi, int64_t tap) {
      if (started[yi] && !(x[xi] > y[yi])) return;
      started[yi] = 1;
      y[yi] = x[xi];
      taps[yi] = static_cast<double>(tap);
    });
  }

  void execute(const MaxPool2dBackward& kind, const Op& op) {
    const auto& dy = (*this)[op.inputs[0]];
    const auto& taps = (*this)[op.inputs[1]];
    auto& dx = (*this)[op.outputs[0]];
    for_each_window(kind.window, kind.x_shape, shape(op.inputs[0]), [&](int64_t xi, int64_t yi, int64_t tap) {
      if (to_index(taps[yi]) == tap) dx[xi] += dy[yi];
    });
  }

  // How many values each window's average is over.
  std::vector<double> window_counts(const AvgPool2d& kind, const Shape& x, const Shape& y) const {
    const double area = static_cast<double>(kind.window.kernel[0] * kind.window.kernel[1]);
    std::vector<double> counts(static_cast<size_t>(element_count(y)), kind.count_include_pad ? area : 0.0);
    if (!kind.count_include_pad)
      for_each_window(kind.window, x, y, [&](int64_t, int64_t yi, int64_t) { counts[yi] += 1; });
    return counts;
  }

  void execute(const AvgPool2d& kind, const Op& op) {
    const auto& x = (*this)[op.inputs[0]];
    auto& y = (*this)[op.outputs[0]];
    const auto counts = window_counts(kind, shape(op.inputs[0]), shape(op.outputs[0]));
    std::vector<Sum<T>> sums(y.size());
    for_each_window(kind.window, shape(op.inputs[0]), shape(op.outputs[0]),
                    [&](int64_t xi, int64_t yi, int64_t) { sums[yi].add(x[xi]); });
    for (size_t i = 0; i < y.size(); ++i) y[i] = sums[i].value() / T(counts[i]);
  }

  void execute(const AvgPool2dBackward& kind, const Op& op) {
    const auto& dy = (*this)[op.inputs[0]];
    auto& dx = (*this)[op.outputs[0]];
    const auto counts = window_counts(kind.pool, kind.x_shape, shape(op.inputs[0]));
    std::vector<T> part(dy.size());
    for (size_t i = 0; i < dy.size(); ++i) part[i] = dy[i] / T(counts[i]);
    for_each_window(kind.pool.window, kind.x_shape, shape(op.inputs[0]),
                    [&](int64_t xi, int64_t yi, int64_t) { dx[xi] += part[yi]; });
  }

  void execute(const BatchNorm2d& kind, const Op& op) {
    using std::sqrt;
    const Shape& x_shape = shape(op.inputs[0]);
    const auto& x = (*this)[op.inputs[0]];
    const auto& gamma = (*this)[op.inputs[1]];
    const auto& beta = (*this)[op.inputs[2]];
    auto& y = (*this)[op.outputs[0]];
    auto& mean = (*this)[op.outputs[1]];
    auto& variance = (*this)[op.outputs[2]];
    const T count = static_cast<double>(element_count(x_shape) / x_shape[1]);
    std::vector<Sum<T>> sums(mean.size());
    std::vector<Sum<T>> squares(mean.size());
    for_each_channel(x_shape, [&](int64_t i, int64_t c) { sums[c].add(x[i]); });
    for (size_t c = 0; c < mean.size(); ++c) mean[c] = sums[c].value() / count;
    for_each_channel(x_shape, [&](int64_t i, int64_t c) {
      const T difference = x[i] - mean[c];
      squares[c].add(difference * difference);
    });
    std::vector<T> scale(mean.size());
    for (size_t c = 0; c < mean.size(); ++c) {
      variance[c] = squares[c].value() / count;
      scale[c] = gamma[c] * (T(1.0) / sqrt(variance[c] + T(kind.epsilon)));
    }
    for_each_channel(x_shape, [&](int64_t i, int64_t c) { y[i] = (x[i] - mean[c]) * scale[c] + beta[c]; });
  }

  void execute(const BatchNorm2dBackward& kind, const Op& op) {
    using std::sqrt;
    const Shape& x_shape = shape(op.inputs[0]);
    const auto& dy = (*this)[op.inputs[0]];
    const auto& x = (*this)[op.inputs[1]];
    const auto& gamma = (*this)[op.inputs[2]];
    const auto& mean = (*this)[op.inputs[3]];
    const auto& variance = (*this)[op.inputs[4]];
    auto& dgamma = (*this)[op.outputs[0]];
    auto& dbeta = (*this)[op.outputs[1]];
    const size_t channels = mean.size();
    const T count = static_cast<double>(element_count(x_shape) / x_shape[1]);
    std::vector<Sum<T>> sums(channels);
    std::vector<Sum<T>> products(channels);
    for_each_channel(x_shape, [&](int64_t i, int64_t c) {
      sums[c].add(dy[i]);
      products[c].add(dy[i] * (x[i] - mean[c]));
    });
    std::vector<T> inverse(channels);
    for (size_t c = 0; c < channels; ++c) {
      inverse[c] = T(1.0) / sqrt(variance[c] + T(kind.epsilon));
      dbeta[c] = sums[c].value();
      dgamma[c] = products[c].value() * inverse[c];
    }
    if (!kind.data_gradient) return;
    auto& dx = (*this)[op.outputs[2]];
    std::vector<T> scale(channels);
    std::vector<T> mean_dy(channels);
    std::vector<T> slope(channels);
    for (size_t c = 0; c < channels; ++c) {
      scale[c] = gamma[c] * inverse[c];
      mean_dy[c] = dbeta[c] / count;
      slope[c] = dgamma[c] * inverse[c] / count;
    }
    for_each_channel(
        x_shape, [&](int64_t i, int64_t c) { dx[i] = (dy[i] - mean_dy[c] - (x[i] - mean[c]) * slope[c]) * scale[c]; });
  }

  void execute(const RunningStatistics& kind, const Op& op) {
    const double count = static_cast<double>(kind.count);
    for (size_t s = 0; s < 2; ++s) {
      const auto& running = (*this)[op.inputs[s]];
      const auto& current = (*this)[op.inputs[s + 2]];
      const double unbias = s == 0 ? 1.0 : count / (count - 1);
      for (size_t c = 0; c < running.size(); ++c) {
        (*this)[op.outputs[s]][c] = T(1 - kind.momentum) * running[c] + T(kind.momentum * unbias) * current[c];
      }
    }
  }

  void execute(const Add&, const Op& op) {
    const auto& a = (*this)[op.inputs[0]];
    const auto& b = (*this)[op.inputs[1]];
    auto& y = (*this)[op.outputs[0]];
    for (size_t i = 0; i < y.size(); ++i) y[i] = a[i] + b[i];
  }

  void execute(const Convert&, const Op& op) { (*this)[op.outputs[0]] = (*this)[op.inputs[0]]; }

  void execute(const Reshape&, const Op& op) { (*this)[op.outputs[0]] = (*this)[op.inputs[0]]; }

  void execute(const SoftmaxCrossEntropy&, const Op& op) {
    using std::exp;
    using std::log;
    const auto& x = (*this)[op.inputs[0]];
    const auto& target = (*this)[op.inputs[1]];
    auto& probabilities = (*this)[op.outputs[1]];
    const int64_t rows = shape(op.inputs[0])[0];
    const int64_t classes = shape(op.inputs[0])[1];
    Sum<T> losses;
    for (int64_t n = 0; n < rows; ++n) {
      const T* row = &x[n * classes];
      T* p = &probabilities[n * classes];
      T largest = row[0];
      for (int64_t k = 1; k < classes; ++k) largest = row[k] > largest ? row[k] : largest;
      Sum<T> sum;
      T chosen = 0.0;
      for (int64_t k = 0; k < classes; ++k) {
        const T shifted = row[k] - largest;
        if (k == to_index(target[n])) chosen = shifted;
        p[k] = exp(shifted);
        sum.add(p[k]);
      }
      for (int64_t k = 0; k < classes; ++k) p[k] = p[k] / sum.value();
      losses.add(log(sum.value()) - chosen);
    }
    (*this)[op.outputs[0]][0] = losses.value() / T(static_cast<double>(rows));
  }

  void execute(const SoftmaxCrossEntropyBackward& kind, const Op& op) {
    const auto& probabilities = (*this)[op.inputs[0]];
    const auto& target = (*this)[op.inputs[1]];
    auto& dx = (*this)[op.outputs[0]];
    const int64_t rows = shape(op.inputs[0])[0];
    const int64_t classes = shape(op.inputs[0])[1];
    for (int64_t n = 0; n < rows; ++n) {
      for (int64_t k = 0; k < classes; ++k) {
        const T p = probabilities[n * classes + k];
        dx[n * classes + k] =
            (k == to_index(target[n]) ? p - T(1.0) : p) / T(static_cast<double>(rows) / kind.loss_scale);
      }
    }
  }

  void execute(const MeanSquare&, const Op& op) {
    const auto& x = (*this)[op.inputs[0]];
    Sum<T> sum;
    for (const T& value : x) sum.add(value * value);
    (*this)[op.outputs[0]][0] = sum.value() / T(static_cast<double>(x.size()));
  }

  void execute(const MeanSquareBackward& kind, const Op& op) {
    const auto& x = (*this)[op.inputs[0]];
    auto& dx = (*this)[op.outputs[0]];
    for (size_t i = 0; i < x.size(); ++i) dx[i] = x[i] * T(2.0 * kind.loss_scale / static_cast<double>(x.size()));
  }

  void execute(const Update& kind, const Op& op) {
    const auto& gradient = (*this)[op.inputs[1]];
    const auto& scalars = (*this)[op.inputs[2]];
    (*this)[op.outputs[0]] = (*this)[op.inputs[0]];
    for (size_t s = 1; s < op.outputs.size(); ++s) (*this)[op.outputs[s]] = (*this)[op.inputs[s + 2]];
    std::visit(
        [&](const auto& optimizer) {
          for (size_t i = 0; i < gradient.size(); ++i) {
            T state[kMostStates] = {};
            for (int s = 0; s < optimizer.kStates; ++s) state[s] = (*this)[op.outputs[s + 1]][i];
            const T scaled = gradient[i];
            const T unscaled = kind.loss_scale == 1 ? scaled : scaled * T(1 / kind.loss_scale);
            optimizer.step((*this)[op.outputs[0]][i], unscaled, state, scalars.data());
            for (int s = 0; s < optimizer.kStates; ++s) (*this)[op.outputs[s + 1]][i] = state[s];
          }
        },
        kind.optimizer);
  }

  const StepProgram& program_;
  std::vector<std::vector<T>> values_;
};

}  // namespace triphase
