// SPDX-License-Identifier: Apache-2.0
#include "measure/element.h"

#include <algorithm>
#include <cmath>

#include "core/narrow.h"
#include "core/running_error.h"

namespace triphase {
namespace {

constexpr double kLambda = 8;

// Roundings of a sum whose terms are alike are not independent: adding the same number again and again is rounded the
// same way each time, until the sum outgrows its power of two. Gradients behind an average pooling are such terms. The
// worst case then counts, of as many roundings as terms repeat the one before, each of a partial sum.
struct Repeats {
  double last = 0;
  double largest_sum = 0;
  int64_t count = 0;

  void add(double term, double sum) {
    largest_sum = std::max(largest_sum, std::abs(sum));
    if (term == 0) return;  // is not rounded
    count += term == last;
    last = term;
  }
  double error() const { return static_cast<double>(count) * kUnitRoundoffF32 * largest_sum; }
};

// Accumulates products and sums with their magnitudes.
struct Accumulator {
  Element sum;
  Repeats repeats;
  int64_t terms = 0;

  void add(const Element& a) {
    sum.value += a.value;
    repeats.add(a.value, sum.value);
    sum.magnitude += a.magnitude;
    sum.roundings = std::max(sum.roundings, a.roundings);
    sum.coarse += a.coarse;
    ++terms;
  }
  void add_product(const Element& a, const Element& b) {
    add({a.value * b.value, a.magnitude * b.magnitude, a.roundings + b.roundings,
         std::abs(a.value) * b.coarse + std::abs(b.value) * a.coarse});
  }
  Element result() const {
    return {sum.value, sum.magnitude, sum.roundings + static_cast<double>(terms), sum.coarse + repeats.error()};
  }
};

// A sum of products whose operands may be rounded to TF32, 11 bits of significand, or cut off after them, which takes a
// share of up to 2^-10 from each. The share that all lose alike moves the sum in proportion to itself; what the shares
// differ by is independent, so that λ √Σ(share term)² is passed with probability below 2 exp(-λ²/2) (Hoeffding).
struct Contraction : Accumulator {
  explicit Contraction(Precision precision) : share(precision == Precision::kTF32 ? 0x1p-9 : 0) {}

  void add_product(const Element& a, const Element& b) {
    Accumulator::add_product(a, b);
    squares += a.value * a.value * b.value * b.value;
  }
  Element result() const {
    Element all = Accumulator::result();
    all.coarse += share * (std::abs(all.value) + kLambda * std::sqrt(squares));
    return all;
  }

  double share;  // of a product, that its two operands' roundings may take
  double squares = 0;
};

Element scaled(const Element& a, double factor, double roundings = 1) {
  return {a.value * factor, a.magnitude * std::abs(factor), a.roundings + roundings, a.coarse * std::abs(factor)};
}

// Row-major [N, C, H, W].
struct Index4 {
  int64_t n, c, h, w;
};

Index4 split(int64_t index, const Shape& shape) {
  return {index / (shape[1] * shape[2] * shape[3]), index / (shape[2] * shape[3]) % shape[1],
          index / shape[3] % shape[2], index % shape[3]};
}

int64_t join(const Shape& shape, int64_t n, int64_t c, int64_t h, int64_t w) {
  return ((n * shape[1] + c) * shape[2] + h) * shape[3] + w;
}

// The input position of a tap, or -1 outside.
int64_t tap_position(const Window& window, size_t d, int64_t output, int64_t tap, int64_t extent) {
  const int64_t position = output * window.stride[d] - window.padding[d] + tap * window.dilation[d];
  return position < extent ? std::max<int64_t>(position, -1) : -1;
}

// The output whose tap falls on an input position, or -1.
int64_t tap_output(const Window& window, size_t d, int64_t input, int64_t tap, int64_t outputs) {
  const int64_t distance = input + window.padding[d] - tap * window.dilation[d];
  if (distance < 0 || distance % window.stride[d] != 0) return -1;
  const int64_t output = distance / window.stride[d];
  return output < outputs ? output : -1;
}

double window_count(const AvgPool2d& pool, const Shape& x, int64_t oh, int64_t ow) {
  double count = 0;
  for (int64_t i = 0; i < pool.window.kernel[0]; ++i) {
    for (int64_t j = 0; j < pool.window.kernel[1]; ++j) {
      const bool inside =
          tap_position(pool.window, 0, oh, i, x[2]) >= 0 && tap_position(pool.window, 1, ow, j, x[3]) >= 0;
      count += pool.count_include_pad || inside;
    }
  }
  return count;
}

}  // namespace

double Element::bound(DType dtype) const {
  constexpr double kFewRoundings = 4;  // where n is too small for the law of large numbers, the worst case
  const double computing =
      (kLambda * std::sqrt(roundings) + kFewRoundings) * kUnitRoundoffF32 * magnitude + coarse + underflow(dtype);
  return is_narrow(dtype) ? computing + unit_roundoff(dtype) * (std::abs(value) + computing) : computing;
}

void ElementEvaluator::before(std::span<const int> ops) {
  runs_next_.assign(program_.ops.size(), 0);
  for (const int op : ops) runs_next_[static_cast<size_t>(op)] = 1;
  multiplies_next_ = std::ranges::any_of(ops, [&](int op) { return std::holds_alternative<MatMul>(op_at(op).kind); });
  channel_sums_.clear();
}

bool ElementEvaluator::is_absent(TensorId id) const {
  const int producer = program_.tensor(id).producer;
  return !plan_.materialised(id) || (producer >= 0 && runs_next_[static_cast<size_t>(producer)]);
}

Element ElementEvaluator::read(TensorId id, int64_t index) {
  if (is_absent(id)) {
    const int producer = program_.tensor(id).producer;
    const auto& outputs = op_at(producer).outputs;
    Element element = evaluate(producer, static_cast<size_t>(std::ranges::find(outputs, id) - outputs.begin()), index);
    // Fusion may pass it on as it was computed, or rounded as if it had been kept.
    const DType dtype = program_.tensor(id).type.dtype;
    if (is_narrow(dtype)) element.coarse += unit_roundoff(dtype) * std::abs(element.value) + underflow(dtype);
    return element;
  }
  const double value = plan_.read(id, index);
  return {value, std::abs(value), 0};
}

const ElementEvaluator::ChannelSums& ElementEvaluator::channel_sums(int op, int64_t channel) {
  const auto [found, fresh] = channel_sums_.try_emplace({op, channel});
  ChannelSums& sums = found->second;
  if (!fresh) return sums;
  const Op& that = op_at(op);
  const bool forward = std::holds_alternative<BatchNorm2d>(that.kind);
  const TensorId x = that.inputs[forward ? 0 : 1];
  const Shape& x_shape = shape(x);
  const auto for_each = [&](auto f) {
    for (int64_t n = 0; n < x_shape[0]; ++n) {
      for (int64_t i = 0; i < x_shape[2] * x_shape[3]; ++i) f((n * x_shape[1] + channel) * x_shape[2] * x_shape[3] + i);
    }
  };
  const auto count = static_cast<double>(x_shape[0] * x_shape[2] * x_shape[3]);
  if (forward) {  // mean, variance, mean of squares
    for_each([&](int64_t i) { sums.first += read(x, i).value / count; });
    for_each([&](int64_t i) {
      const double value = read(x, i).value;
      sums.second += (value - sums.first) * (value - sums.first) / count;
      sums.magnitude += value * value / count;
    });
  } else {  // Σ dy, Σ dy (x - mean), Σ |dy| (|x| + |mean|)
    const double mean = read(that.inputs[3], channel).value;
    Repeats repeats;
    for_each([&](int64_t i) {
      const double dy = read(that.inputs[0], i).value;
      const double value = read(x, i).value;
      sums.first += dy;
      repeats.add(dy, sums.first);
      sums.second += dy * (value - mean);
      sums.magnitude += std::abs(dy) * (1 + std::abs(value) + std::abs(mean));
    });
    sums.coarse = repeats.error();  // of the first; of the second as Σ dy x - mean Σ dy, where it is so computed
  }
  return sums;
}

struct ElementEvaluator::Overloads {
  ElementEvaluator& self;
  const int number;
  const size_t output;
  const int64_t index;
  const Op& op = self.op_at(number);
  const std::vector<TensorId>& in = op.inputs;
  const Shape& y = self.shape(op.outputs[output]);

  Element read(size_t operand, int64_t i) const { return self.read(in[operand], i); }
  const Shape& shape(size_t operand) const { return self.shape(in[operand]); }
  double count(size_t operand) const { return static_cast<double>(element_count(shape(operand))); }

  Element operator()(const MatMul& kind) const {
    const int64_t rows = y[0];
    const int64_t columns = y[1];
    const int64_t depth = shape(0)[kind.transpose_a ? 0 : 1];
    const int64_t m = index / columns;
    const int64_t n = index % columns;
    Contraction sum(self.program_.precision);
    for (int64_t k = 0; k < depth; ++k) {
      sum.add_product(read(0, kind.transpose_a ? k * rows + m : m * depth + k),
                      read(1, kind.transpose_b ? n * depth + k : k * columns + n));
    }
    return sum.result();
  }

  int64_t inner() const { return element_count(shape(0)) / (shape(0)[0] * shape(0)[1]); }

  Element operator()(const AddBias&) const {
    Accumulator sum;
    sum.add(read(0, index));
    sum.add(read(1, index / inner() % shape(0)[1]));
    return sum.result();
  }
  // A product that sums it on the way may do so as it multiplies: by 1.
  Element operator()(const BiasGradient&) const {
    Contraction sum(self.multiplies_next_ ? self.program_.precision : Precision::kF32);
    for (int64_t n = 0; n < shape(0)[0]; ++n) {
      for (int64_t i = 0; i < inner(); ++i) {
        sum.add_product(read(0, (n * shape(0)[1] + index) * inner() + i), {1, 1, 0});
      }
    }
    return sum.result();
  }

  Element operator()(const Conv2d& kind) const {
    const Shape& x = shape(0);
    const Shape& w = shape(1);
    const auto [n, k, oh, ow] = split(index, y);
    const int64_t first_channel = k / (w[0] / kind.groups) * w[1];
    Contraction sum(self.program_.precision);
    for (int64_t c = 0; c < w[1]; ++c) {
      for (int64_t i = 0; i < w[2]; ++i) {
        for (int64_t j = 0; j < w[3]; ++j) {
          const int64_t ih = tap_position(kind.window, 0, oh, i, x[2]);
          const int64_t iw = tap_position(kind.window, 1, ow, j, x[3]);
          if (ih < 0 || iw < 0) continue;
          sum.add_product(read(0, join(x, n, first_channel + c, ih, iw)), read(1, join(w, k, c, i, j)));
        }
      }
    }
    return sum.result();
  }
  Element operator()(const Conv2dBackwardData& kind) const {
    const Shape& dy = shape(0);
    const Shape& w = shape(1);
    const auto [n, channel, ih, iw] = split(index, y);
    const int64_t group_outputs = w[0] / kind.conv.groups;
    const int64_t first_output = channel / w[1] * group_outputs;
    Contraction sum(self.program_.precision);
    for (int64_t i = 0; i < w[2]; ++i) {
      for (int64_t j = 0; j < w[3]; ++j) {
        const int64_t oh = tap_output(kind.conv.window, 0, ih, i, dy[2]);
        const int64_t ow = tap_output(kind.conv.window, 1, iw, j, dy[3]);
        if (oh < 0 || ow < 0) continue;
        for (int64_t k = first_output; k < first_output + group_outputs; ++k) {
          sum.add_product(read(0, join(dy, n, k, oh, ow)), read(1, join(w, k, channel % w[1], i, j)));
        }
      }
    }
    return sum.result();
  }
  Element operator()(const Conv2dBackwardWeights& kind) const {
    const Shape& dy = shape(0);
    const Shape& x = shape(1);
    const auto [k, c, i, j] = split(index, y);
    const int64_t channel = k / (y[0] / kind.conv.groups) * y[1] + c;
    Contraction sum(self.program_.precision);
    for (int64_t n = 0; n < dy[0]; ++n) {
      for (int64_t oh = 0; oh < dy[2]; ++oh) {
        for (int64_t ow = 0; ow < dy[3]; ++ow) {
          const int64_t ih = tap_position(kind.conv.window, 0, oh, i, x[2]);
          const int64_t iw = tap_position(kind.conv.window, 1, ow, j, x[3]);
          if (ih < 0 || iw < 0) continue;
          sum.add_product(read(0, join(dy, n, k, oh, ow)), read(1, join(x, n, channel, ih, iw)));
        }
      }
    }
    return sum.result();
  }

  Element operator()(const Relu&) const {
    Element x = read(0, index);
    x.value = std::max(x.value, 0.0);
    return x;
  }
  Element operator()(const ReluBackward&) const { return read(1, index).value > 0 ? read(0, index) : Element{}; }

  Element operator()(const MaxPool2d& kind) const {
    const Shape& x = shape(0);
    const auto [n, c, oh, ow] = split(index, y);
    Element largest;
    int64_t tap = -1;
    for (int64_t t = 0; t < kind.window.kernel[0] * kind.window.kernel[1]; ++t) {
      const int64_t ih = tap_position(kind.window, 0, oh, t / kind.window.kernel[1], x[2]);
      const int64_t iw = tap_position(kind.window, 1, ow, t % kind.window.kernel[1], x[3]);
      if (ih < 0 || iw < 0) continue;
      const Element value = read(0, join(x, n, c, ih, iw));
      if (tap >= 0 && !(value.value > largest.value)) continue;
      largest = value;
      tap = t;
    }
    if (output == 1) return {static_cast<double>(tap), 0, 0};
    return largest;
  }
  Element operator()(const MaxPool2dBackward& kind) const {
    const Shape& dy = shape(0);
    const auto [n, c, ih, iw] = split(index, y);
    Accumulator sum;
    for (int64_t t = 0; t < kind.window.kernel[0] * kind.window.kernel[1]; ++t) {
      const int64_t oh = tap_output(kind.window, 0, ih, t / kind.window.kernel[1], dy[2]);
      const int64_t ow = tap_output(kind.window, 1, iw, t % kind.window.kernel[1], dy[3]);
      if (oh < 0 || ow < 0) continue;
      const int64_t window = join(dy, n, c, oh, ow);
      if (read(1, window).value == static_cast<double>(t)) sum.add(read(0, window));
    }
    return sum.result();
  }

  Element operator()(const AvgPool2d& kind) const {
    const Shape& x = shape(0);
    const auto [n, c, oh, ow] = split(index, y);
    Accumulator sum;
    for (int64_t i = 0; i < kind.window.kernel[0]; ++i) {
      for (int64_t j = 0; j < kind.window.kernel[1]; ++j) {
        const int64_t ih = tap_position(kind.window, 0, oh, i, x[2]);
        const int64_t iw = tap_position(kind.window, 1, ow, j, x[3]);
        if (ih >= 0 && iw >= 0) sum.add(read(0, join(x, n, c, ih, iw)));
      }
    }
    return scaled(sum.result(), 1 / window_count(kind, x, oh, ow));
  }
  Element operator()(const AvgPool2dBackward& kind) const {
    const Shape& dy = shape(0);
    const auto [n, c, ih, iw] = split(index, y);
    Accumulator sum;
    for (int64_t i = 0; i < kind.pool.window.kernel[0]; ++i) {
      for (int64_t j = 0; j < kind.pool.window.kernel[1]; ++j) {
        const int64_t oh = tap_output(kind.pool.window, 0, ih, i, dy[2]);
        const int64_t ow = tap_output(kind.pool.window, 1, iw, j, dy[3]);
        if (oh < 0 || ow < 0) continue;
        sum.add(scaled(read(0, join(dy, n, c, oh, ow)), 1 / window_count(kind.pool, y, oh, ow), 2));
      }
    }
    return sum.result();
  }

  Element operator()(const BatchNorm2d& kind) const {
    const int64_t channel = output == 0 ? index / inner() % shape(0)[1] : index;
    const ChannelSums& sums = self.channel_sums(number, channel);
    const double terms = count(0) / static_cast<double>(shape(0)[1]);
    const double spread = std::sqrt(sums.magnitude);  // of the values around zero
    if (output == 1) return {sums.first, spread, terms};
    if (output == 2) return {sums.second, sums.magnitude, terms};
    const double x = read(0, index).value;
    const double gamma = read(1, channel).value;
    const double beta = read(2, channel).value;
    const double scale = gamma / std::sqrt(sums.second + kind.epsilon);
    const double relative = (std::abs(x) + std::abs(sums.first)) * (1 + sums.magnitude / (sums.second + kind.epsilon));
    return {(x - sums.first) * scale + beta, (relative + spread) * std::abs(scale) + std::abs(beta), terms};
  }
  Element operator()(const BatchNorm2dBackward& kind) const {
    const int64_t channel = output == 2 ? index / inner() % shape(0)[1] : index;
    const ChannelSums& sums = self.channel_sums(number, channel);
    const double per_channel = count(0) / static_cast<double>(shape(0)[1]);
    const double inverse = 1 / std::sqrt(read(4, channel).value + kind.epsilon);
    const double mean = read(3, channel).value;
    const double of_second = std::abs(mean) * sums.coarse;
    if (output == 0) return {sums.second * inverse, sums.magnitude * inverse, per_channel, of_second * inverse};
    if (output == 1) return {sums.first, sums.magnitude, per_channel, sums.coarse};
    const double dy = read(0, index).value;
    const double centred = read(1, index).value - mean;
    const double scale = read(2, channel).value * inverse;
    const double slope = sums.second * inverse * inverse / per_channel;
    const double mean_magnitude = sums.magnitude / per_channel;
    const double magnitude =
        std::abs(dy) + mean_magnitude * (1 + (std::abs(read(1, index).value) + std::abs(centred)) * inverse * inverse);
    const double coarse = (sums.coarse + std::abs(centred) * of_second * inverse * inverse) / per_channel;
    return {(dy - sums.first / per_channel - centred * slope) * scale, magnitude * std::abs(scale), per_channel,
            coarse * std::abs(scale)};
  }
  Element operator()(const RunningStatistics& kind) const {
    const auto values = static_cast<double>(kind.count);
    Accumulator sum;
    sum.add(scaled(read(output, index), 1 - kind.momentum));
    sum.add(scaled(read(output + 2, index), kind.momentum * (output == 0 ? 1 : values / (values - 1)), 2));
    return sum.result();
  }

  Element operator()(const Add&) const {
    Accumulator sum;
    sum.add(read(0, index));
    sum.add(read(1, index));
    return sum.result();
  }
  Element operator()(const Reshape&) const { return read(0, index); }
  Element operator()(const Convert&) const { return read(0, index); }

  // A row's softmax: exp's relative error grows with its argument.
  Element operator()(const SoftmaxCrossEntropy&) const {
    const int64_t classes = shape(0)[1];
    const auto row = [&](int64_t n, int64_t k) { return read(0, n * classes + k).value; };
    const auto log_sum = [&](int64_t n) {
      double largest = row(n, 0);
      for (int64_t k = 1; k < classes; ++k) largest = std::max(largest, row(n, k));
      double sum = 0;
      for (int64_t k = 0; k < classes; ++k) sum += std::exp(row(n, k) - largest);
      return std::pair(largest, std::log(sum));
    };
    if (output == 1) {
      const auto [largest, log] = log_sum(index / classes);
      const double x = row(index / classes, index % classes);
      const double p = std::exp(x - largest - log);
      return {p, p * (2 + std::abs(x) + std::abs(largest)), static_cast<double>(classes) + 4};
    }
    Accumulator sum;
    for (int64_t n = 0; n < shape(0)[0]; ++n) {
      const auto [largest, log] = log_sum(n);
      const double x = row(n, static_cast<int64_t>(read(1, n).value));
      sum.add(
          {log - (x - largest), 1 + std::abs(log) + std::abs(x) + std::abs(largest), static_cast<double>(classes) + 4});
    }
    return scaled(sum.result(), 1 / static_cast<double>(shape(0)[0]));
  }
  Element operator()(const SoftmaxCrossEntropyBackward& kind) const {
    const int64_t classes = shape(0)[1];
    const bool hit = static_cast<int64_t>(read(1, index / classes).value) == index % classes;
    Accumulator sum;
    sum.add(read(0, index));
    if (hit) sum.add({-1, 1, 0});
    return scaled(sum.result(), kind.loss_scale / static_cast<double>(shape(0)[0]), 2);
  }
  Element operator()(const MeanSquare&) const {
    Accumulator sum;
    for (int64_t i = 0; i < element_count(shape(0)); ++i) sum.add_product(read(0, i), read(0, i));
    return scaled(sum.result(), 1 / count(0));
  }
  Element operator()(const MeanSquareBackward& kind) const {
    return scaled(read(0, index), kind.loss_scale * 2 / count(0), 2);
  }

  Element operator()(const Update& kind) const {
    return std::visit(
        [&](const auto& optimizer) {
          const auto exact = [&](size_t operand, int64_t i) { return RunningError::exact(read(operand, i).value); };
          RunningError w = exact(0, index);
          RunningError state[kMostStates];
          RunningError scalars[kMostScalars];
          for (int s = 0; s < optimizer.kStates; ++s) state[s] = exact(static_cast<size_t>(3 + s), index);
          for (size_t s = 0; s < optimizer.scalars(1).size(); ++s) scalars[s] = exact(2, static_cast<int64_t>(s));
          optimizer.step(w, RunningError::exact(read(1, index).value / kind.loss_scale), state, scalars);
          const RunningError& result = output == 0 ? w : state[output - 1];
          // The running error, a worst case already, as one rounding of a magnitude that size.
          return Element{result.value(), result.error() / kUnitRoundoffF32, 0};
        },
        kind.optimizer);
  }
};

Element ElementEvaluator::evaluate(int op, size_t output, int64_t index) {
  return std::visit(Overloads{*this, op, output, index}, op_at(op).kind);
}

int64_t ElementEvaluator::work(int op, size_t output) const {
  const Op& that = op_at(op);
  const auto in = [&](size_t operand) -> const Shape& { return shape(that.inputs[operand]); };
  const int64_t own = std::visit(
      Overloaded{
          [&](const MatMul& kind) { return 2 * in(0)[kind.transpose_a ? 0 : 1]; },
          [&](const BiasGradient&) { return element_count(in(0)) / in(0)[1]; },
          [&](const Conv2d&) { return 2 * in(1)[1] * in(1)[2] * in(1)[3]; },
          [&](const Conv2dBackwardData& kind) { return 2 * in(1)[0] / kind.conv.groups * in(1)[2] * in(1)[3]; },
          [&](const Conv2dBackwardWeights&) { return 2 * in(0)[0] * in(0)[2] * in(0)[3]; },
          [&](const MaxPool2d& kind) { return kind.window.kernel[0] * kind.window.kernel[1]; },
          [&](const MaxPool2dBackward& kind) { return kind.window.kernel[0] * kind.window.kernel[1]; },
          [&](const AvgPool2d& kind) { return kind.window.kernel[0] * kind.window.kernel[1]; },
          [&](const AvgPool2dBackward& kind) { return kind.pool.window.kernel[0] * kind.pool.window.kernel[1]; },
          [&](const SoftmaxCrossEntropy&) { return output == 0 ? element_count(in(0)) : in(0)[1]; },
          [&](const MeanSquare&) { return element_count(in(0)); },
          [&](const auto&) { return int64_t{1}; },
      },
      that.kind);
  int64_t all = own;
  for (const TensorId id : that.inputs) {
    if (is_absent(id) && program_.tensor(id).producer >= 0) all += work(program_.tensor(id).producer, 0);
  }
  return all;
}

}  // namespace triphase
