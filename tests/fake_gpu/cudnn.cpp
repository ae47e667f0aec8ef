// SPDX-License-Identifier: Apache-2.0
// A shared library in cuDNN's place, for programs that runtime.cpp is linked into: descriptors of any kind, heuristics
// that list a few made-up engines, and an execution of convolutions and what follows them in float64, at the strides
// that the tensors' descriptors tell. What the library would refuse it refuses.
#include <cudnn_graph.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "fake_gpu/elements.h"
#include "fake_gpu/runtime.h"

namespace {

using fake_gpu::aligned;
using fake_gpu::in_tf32;
using fake_gpu::kOperation_s;
using triphase::DType;

// What the library says no to, with a status and a reason.
struct Refusal : std::runtime_error {
  Refusal(cudnnStatus_t as, const std::string& why) : std::runtime_error(why), status(as) {}
  cudnnStatus_t status;
};

std::string& last_error() {
  static std::string text;
  return text;
}

// --- Engines ------------------------------------------------------------------------------------

struct Engine {
  int64_t number;
  std::vector<cudnnBackendNumericalNote_t> notes;
  int64_t workspace_bytes;
  double seconds;               // of a run
  bool builds, runs, captured;  // whether it can be
};

// The first that does is not the fastest. Those with notes round operands to TF32, whichever note it is.
const std::vector<Engine>& engines() {
  static const std::vector<Engine> all = {
      {20, {CUDNN_NUMERICAL_NOTE_WINOGRAD}, 0, kOperation_s / 8, true, true, true},
      {21, {CUDNN_NUMERICAL_NOTE_TENSOR_CORE}, 1024, kOperation_s / 2, true, true, true},
      {22, {CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS}, 0, kOperation_s / 8, true, true, true},
      {23, {}, 0, kOperation_s, false, true, true},
      {28, {}, 0, kOperation_s / 8, true, true, false},
      {24, {}, 4096, 3 * kOperation_s, true, true, true},
      {25, {}, 0, kOperation_s, true, false, true},
      {26, {}, 512, kOperation_s, true, true, true},
      {27, {}, int64_t{1} << 40, kOperation_s, true, true, true},
  };
  return all;
}

const Engine& engine_numbered(int64_t number) {
  const auto found = std::ranges::find(engines(), number, &Engine::number);
  if (found == engines().end()) throw Refusal(CUDNN_STATUS_BAD_PARAM, "no such engine");
  return *found;
}

// --- Descriptors --------------------------------------------------------------------------------

struct Descriptor;
using Snapshot = std::shared_ptr<const Descriptor>;  // as it was when it was made an attribute of another

struct Attribute {
  cudnnBackendAttributeType_t type{};
  int64_t count = 0;
  std::vector<std::byte> bytes;
  std::vector<Snapshot> descriptors;
};

struct Descriptor {
  cudnnBackendDescriptorType_t type{};
  bool finalized = false;
  std::map<cudnnBackendAttributeName_t, Attribute> attributes;

  bool has(cudnnBackendAttributeName_t name) const { return attributes.contains(name); }
  const Attribute& attribute(cudnnBackendAttributeName_t name) const {
    const auto found = attributes.find(name);
    if (found == attributes.end()) {
      throw Refusal(CUDNN_STATUS_BAD_PARAM, "attribute " + std::to_string(name) + " of a descriptor of type " +
                                                std::to_string(type) + " was not set");
    }
    return found->second;
  }
  template <class T>
  std::vector<T> values(cudnnBackendAttributeName_t name) const {
    const Attribute& from = attribute(name);
    std::vector<T> all(from.bytes.size() / sizeof(T));
    std::memcpy(all.data(), from.bytes.data(), all.size() * sizeof(T));
    return all;
  }
  template <class T>
  T value(cudnnBackendAttributeName_t name) const {
    T first;
    std::memcpy(&first, attribute(name).bytes.data(), sizeof first);
    return first;
  }
  template <class T>
  T value_or(cudnnBackendAttributeName_t name, T otherwise) const {
    return has(name) ? value<T>(name) : otherwise;
  }
  const Descriptor& child(cudnnBackendAttributeName_t name) const { return *attribute(name).descriptors.at(0); }
};

size_t width(cudnnBackendAttributeType_t type) {
  switch (type) {
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_DOUBLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_HANDLE:
      return 8;
    case CUDNN_TYPE_BOOLEAN:
    case CUDNN_TYPE_CHAR:
      return 1;
    default:
      return 4;  // floats and enumerations
  }
}

Descriptor& as_descriptor(cudnnBackendDescriptor_t handle) {
  if (handle == nullptr) throw Refusal(CUDNN_STATUS_BAD_PARAM, "a null descriptor");
  return *static_cast<Descriptor*>(handle);
}

// Of an engine's configuration.
const Engine& engine_of(const Descriptor& config) {
  return engine_numbered(config.child(CUDNN_ATTR_ENGINECFG_ENGINE).value<int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX));
}

// --- What is computed ---------------------------------------------------------------------------

DType dtype_of(const Descriptor& tensor) {
  switch (tensor.value<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE)) {
    case CUDNN_DATA_FLOAT:
      return DType::kF32;
    case CUDNN_DATA_BFLOAT16:
      return DType::kBF16;
    case CUDNN_DATA_HALF:
      return DType::kF16;
    default:
      throw Refusal(CUDNN_STATUS_NOT_SUPPORTED, "a data type that is not offered");
  }
}

int64_t uid_of(const Descriptor& tensor) { return tensor.value<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID); }
bool is_virtual(const Descriptor& tensor) { return tensor.value_or(CUDNN_ATTR_TENSOR_IS_VIRTUAL, false); }

int64_t bytes_of(const Descriptor& tensor) {
  const auto dims = tensor.values<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS);
  const auto strides = tensor.values<int64_t>(CUDNN_ATTR_TENSOR_STRIDES);
  int64_t last = 0;
  for (size_t i = 0; i < dims.size(); ++i) last += (dims[i] - 1) * strides.at(i);
  return (last + 1) * triphase::size_in_bytes(dtype_of(tensor));
}

// A tensor of four dimensions in memory, and what of it is computed.
class Tensor {
 public:
  explicit Tensor(const Descriptor& of)
      : dims(of.values<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS)),
        strides_(of.values<int64_t>(CUDNN_ATTR_TENSOR_STRIDES)),
        dtype_(dtype_of(of)) {
    if (dims.size() != 4 || strides_.size() != 4) throw Refusal(CUDNN_STATUS_NOT_SUPPORTED, "other than 4 dimensions");
    values_.assign(static_cast<size_t>(dims[0] * dims[1] * dims[2] * dims[3]), 0);
  }

  double& at(int64_t a, int64_t b, int64_t c, int64_t d) {
    return values_[static_cast<size_t>(((a * dims[1] + b) * dims[2] + c) * dims[3] + d)];
  }
  void read(const void* data, bool rounds) {
    for_each([&](double& value, int64_t place) {
      value = triphase::load(data, dtype_, place);
      if (rounds) value = in_tf32(value);
    });
  }
  void write(void* data) {
    for_each([&](double& value, int64_t place) { triphase::store(data, dtype_, place, value); });
  }
  // As what is kept in between is.
  void round() {
    for (double& value : values_) value = triphase::rounded(value, dtype_);
  }
  std::vector<int64_t> dims;

 private:
  template <class F>
  void for_each(F f) {
    for (int64_t a = 0; a < dims[0]; ++a) {
      for (int64_t b = 0; b < dims[1]; ++b) {
        for (int64_t c = 0; c < dims[2]; ++c) {
          for (int64_t d = 0; d < dims[3]; ++d) {
            f(at(a, b, c, d), a * strides_[0] + b * strides_[1] + c * strides_[2] + d * strides_[3]);
          }
        }
      }
    }
  }

  std::vector<int64_t> strides_;
  DType dtype_;
  std::vector<double> values_;
};

// The operands of an operation by their attributes' names.
struct ConvolutionNames {
  cudnnBackendDescriptorType_t operation;
  cudnnBackendAttributeName_t x, w, y, conv, alpha, beta;
  char result;
};
constexpr ConvolutionNames kConvolutions[] = {
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, 'y'},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, 'x'},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA, 'w'},
};
const ConvolutionNames* convolution_of(const Descriptor& operation) {
  const auto* found = std::ranges::find(kConvolutions, operation.type, &ConvolutionNames::operation);
  return found == std::end(kConvolutions) ? nullptr : found;
}

// A float or a double that must be so.
void expect_scalar(const Descriptor& of, cudnnBackendAttributeName_t name, double expected) {
  if (!of.has(name)) return;
  const double found = of.attribute(name).type == CUDNN_TYPE_DOUBLE ? of.value<double>(name)
                                                                    : static_cast<double>(of.value<float>(name));
  if (found != expected) throw Refusal(CUDNN_STATUS_NOT_SUPPORTED, "a scale that is not offered");
}

class Execution {
 public:
  // Takes copies of all that it needs.
  Execution(const Descriptor& graph, std::map<int64_t, void*> addresses, bool rounds)
      : addresses_(std::move(addresses)), rounds_(rounds) {
    for (const Snapshot& operation : graph.attribute(CUDNN_ATTR_OPERATIONGRAPH_OPS).descriptors) {
      operations_.push_back(operation);
    }
  }

  void run() {
    std::map<int64_t, Tensor> tensors;  // by uid
    const auto read = [&](const Descriptor& of) -> Tensor& {
      const auto [found, is_new] = tensors.try_emplace(uid_of(of), of);
      if (is_new && !is_virtual(of)) found->second.read(addresses_.at(uid_of(of)), rounds_);
      return found->second;
    };
    const auto result = [&](const Descriptor& of) -> Tensor& {
      return tensors.insert_or_assign(uid_of(of), Tensor(of)).first->second;
    };
    const auto finish = [&](const Descriptor& of, Tensor& tensor) {
      tensor.round();
      if (!is_virtual(of)) tensor.write(addresses_.at(uid_of(of)));
    };
    for (const Snapshot& operation : operations_) {
      if (const ConvolutionNames* names = convolution_of(*operation)) {
        const Descriptor& x = operation->child(names->x);
        const Descriptor& w = operation->child(names->w);
        const Descriptor& y = operation->child(names->y);
        const Descriptor& written = names->result == 'x' ? x : names->result == 'w' ? w : y;
        Tensor& to = result(written);
        convolve(*operation, *names, names->result == 'x' ? to : read(x), names->result == 'w' ? to : read(w),
                 names->result == 'y' ? to : read(y));
        finish(written, to);
      } else {
        const Descriptor& y = operation->child(CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
        Tensor& from = read(operation->child(CUDNN_ATTR_OPERATION_POINTWISE_XDESC));
        Tensor* other = operation->has(CUDNN_ATTR_OPERATION_POINTWISE_BDESC)
                            ? &read(operation->child(CUDNN_ATTR_OPERATION_POINTWISE_BDESC))
                            : nullptr;
        Tensor& to = result(y);
        combine(operation->child(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR), from, other, to);
        finish(y, to);
      }
    }
  }

  // What is wrong with the graph; empty if nothing.
  static std::string fault_of(const Descriptor& graph) {
    for (const Snapshot& operation : graph.attribute(CUDNN_ATTR_OPERATIONGRAPH_OPS).descriptors) {
      if (const ConvolutionNames* names = convolution_of(*operation)) {
        expect_scalar(*operation, names->alpha, 1);
        expect_scalar(*operation, names->beta, 0);
        const Descriptor& conv = operation->child(names->conv);
        if (conv.value<cudnnConvolutionMode_t>(CUDNN_ATTR_CONVOLUTION_CONV_MODE) != CUDNN_CROSS_CORRELATION) {
          return "a convolution that turns its filter";
        }
        if (conv.value<cudnnDataType_t>(CUDNN_ATTR_CONVOLUTION_COMP_TYPE) != CUDNN_DATA_FLOAT) {
          return "sums that are not in f32";
        }
        if (!shapes_fit(operation->child(names->x), operation->child(names->w), operation->child(names->y), conv)) {
          return "shapes that do not fit";
        }
      } else if (operation->type == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR) {
        const Descriptor& pointwise = operation->child(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
        const auto mode = pointwise.value<cudnnPointwiseMode_t>(CUDNN_ATTR_POINTWISE_MODE);
        const bool has_other = operation->has(CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
        if (!(mode == CUDNN_POINTWISE_ADD && has_other) && mode != CUDNN_POINTWISE_RELU_FWD) {
          return "a pointwise mode that is not offered";
        }
        if (pointwise.value<cudnnDataType_t>(CUDNN_ATTR_POINTWISE_MATH_PREC) != CUDNN_DATA_FLOAT) {
          return "what follows a convolution, not in f32";
        }
      } else {
        return "an operation that is not offered";
      }
    }
    return "";
  }

 private:
  static bool shapes_fit(const Descriptor& x_desc, const Descriptor& w_desc, const Descriptor& y_desc,
                         const Descriptor& conv) {
    const auto x = x_desc.values<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS);
    const auto w = w_desc.values<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS);
    const auto y = y_desc.values<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS);
    const auto before = conv.values<int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS);
    const auto after = conv.values<int64_t>(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS);
    const auto steps = conv.values<int64_t>(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES);
    const auto dilations = conv.values<int64_t>(CUDNN_ATTR_CONVOLUTION_DILATIONS);
    if (x.at(0) != y.at(0) || w.at(0) != y.at(1) || x.at(1) % w.at(1) != 0 || w.at(0) % (x.at(1) / w.at(1)) != 0) {
      return false;
    }
    for (size_t i = 0; i < 2; ++i) {
      const int64_t reach = dilations.at(i) * (w.at(i + 2) - 1) + 1;
      if (y.at(i + 2) != (x.at(i + 2) + before.at(i) + after.at(i) - reach) / steps.at(i) + 1) return false;
    }
    return true;
  }

  static void convolve(const Descriptor& operation, const ConvolutionNames& names, Tensor& x, Tensor& w, Tensor& y) {
    switch (names.result) {
      case 'y':
        return for_each_tap(operation.child(names.conv), x, w, y,
                            [](double in, double weight, double& out) { out += in * weight; });
      case 'x':
        return for_each_tap(operation.child(names.conv), x, w, y,
                            [](double& in, double weight, double out) { in += out * weight; });
      default:
        return for_each_tap(operation.child(names.conv), x, w, y,
                            [](double in, double& weight, double out) { weight += out * in; });
    }
  }

  template <class F>
  static void for_each_tap(const Descriptor& conv, Tensor& x, Tensor& w, Tensor& y, F f) {
    const auto pads = conv.values<int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS);
    const auto steps = conv.values<int64_t>(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES);
    const auto dilations = conv.values<int64_t>(CUDNN_ATTR_CONVOLUTION_DILATIONS);
    const int64_t of_group = w.dims[0] / (x.dims[1] / w.dims[1]);
    const auto times = [](const Tensor& tensor, size_t first, auto each) {
      for (int64_t i = 0; i < tensor.dims[first]; ++i) {
        for (int64_t j = 0; j < tensor.dims[first + 1]; ++j) each(i, j);
      }
    };
    times(y, 0, [&](int64_t n, int64_t k) {
      times(y, 2, [&](int64_t row, int64_t column) {
        double& out = y.at(n, k, row, column);
        times(w, 2, [&](int64_t i, int64_t j) {
          const int64_t r = row * steps[0] - pads[0] + i * dilations[0];
          const int64_t s = column * steps[1] - pads[1] + j * dilations[1];
          if (r < 0 || r >= x.dims[2] || s < 0 || s >= x.dims[3]) return;
          for (int64_t c = 0; c < w.dims[1]; ++c) f(x.at(n, k / of_group * w.dims[1] + c, r, s), w.at(k, c, i, j), out);
        });
      });
    });
  }

  // `other` may have one element where `from` has many.
  static void combine(const Descriptor& pointwise, Tensor& from, Tensor* other, Tensor& to) {
    const auto mode = pointwise.value<cudnnPointwiseMode_t>(CUDNN_ATTR_POINTWISE_MODE);
    const auto index = [&](size_t dimension, int64_t i) { return other->dims[dimension] == 1 ? 0 : i; };
    for (int64_t a = 0; a < to.dims[0]; ++a) {
      for (int64_t b = 0; b < to.dims[1]; ++b) {
        for (int64_t c = 0; c < to.dims[2]; ++c) {
          for (int64_t d = 0; d < to.dims[3]; ++d) {
            const double value = from.at(a, b, c, d);
            double& result = to.at(a, b, c, d);
            if (mode == CUDNN_POINTWISE_ADD) {
              result = value + other->at(index(0, a), index(1, b), index(2, c), index(3, d));
            } else {
              result = value < 0 ? 0 : value;
            }
          }
        }
      }
    }
  }

  std::vector<Snapshot> operations_;
  std::map<int64_t, void*> addresses_;
  bool rounds_;
};

// Every tensor of the graph that is not virtual.
std::map<int64_t, Snapshot> tensors_of(const Descriptor& graph) {
  std::map<int64_t, Snapshot> tensors;
  for (const Snapshot& operation : graph.attribute(CUDNN_ATTR_OPERATIONGRAPH_OPS).descriptors) {
    for (const auto& [name, attribute] : operation->attributes) {
      for (const Snapshot& child : attribute.descriptors) {
        if (child->type == CUDNN_BACKEND_TENSOR_DESCRIPTOR && !is_virtual(*child)) tensors[uid_of(*child)] = child;
      }
    }
  }
  return tensors;
}

struct Handle {
  cudaStream_t stream = nullptr;
};

void execute(const Handle& handle, const Descriptor& plan, const Descriptor& pack) {
  const Descriptor& config = plan.child(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
  const Descriptor& graph = config.child(CUDNN_ATTR_ENGINECFG_ENGINE).child(CUDNN_ATTR_ENGINE_OPERATION_GRAPH);
  const Engine& made_up = engine_of(config);
  const auto uids = pack.values<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
  const auto pointers = pack.values<void*>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
  void* workspace = pack.value_or<void*>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, nullptr);
  std::map<int64_t, void*> addresses;
  for (size_t i = 0; i < uids.size(); ++i) addresses[uids[i]] = pointers.at(i);

  const auto refuse = [](const std::string& why) {
    fake_gpu_violation("cudnnBackendExecute: " + why);
    throw Refusal(CUDNN_STATUS_BAD_PARAM, why);
  };
  for (const auto& [uid, tensor] : tensors_of(graph)) {
    const std::string name = "tensor " + std::to_string(uid);
    if (!addresses.contains(uid)) refuse(name + " has no address");
    const void* data = addresses[uid];
    if (!fake_gpu_holds(data, bytes_of(*tensor))) refuse(name + " is not in device memory");
    if (!aligned(data, tensor->value<int64_t>(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT))) refuse(name + " is not aligned");
  }
  const int64_t bytes = made_up.workspace_bytes;
  if (bytes > 0 && !fake_gpu_holds(workspace, bytes)) refuse("the workspace is not in device memory");
  if (!made_up.runs) throw Refusal(CUDNN_STATUS_EXECUTION_FAILED, "the engine does not run");
  if (!made_up.captured && fake_gpu_captures(handle.stream)) {
    throw Refusal(CUDNN_STATUS_EXECUTION_FAILED, "the engine cannot be captured");
  }
  const auto execution = std::make_shared<Execution>(graph, addresses, !made_up.notes.empty());
  std::string what = "cudnnBackendExecute by engine " + std::to_string(made_up.number) + " of";
  for (const Snapshot& operation : graph.attribute(CUDNN_ATTR_OPERATIONGRAPH_OPS).descriptors) {
    what += " " + std::to_string(operation->type);
  }
  for (const auto& [uid, tensor] : tensors_of(graph)) what += " " + std::to_string(static_cast<int>(dtype_of(*tensor)));
  const cudaError_t status = fake_gpu_enqueue(handle.stream, what.c_str(), made_up.seconds, [=] {
    if (bytes > 0) std::memset(workspace, 0xff, static_cast<size_t>(bytes));
    execution->run();
  });
  if (status != cudaSuccess) throw Refusal(CUDNN_STATUS_EXECUTION_FAILED, "the stream takes nothing");
}

// --- Questions ----------------------------------------------------------------------------------

// Which the heuristics list, best first.
std::vector<int64_t> listed(cudnnBackendHeurMode_t mode) {
  if (mode == CUDNN_HEUR_MODE_FALLBACK) return {24, 26};
  return {20, 21, 22, 23, 28, 24, 25, 26, 27};
}

template <class T>
void answer(const std::vector<T>& values, int64_t most, int64_t* count, void* to) {
  if (count != nullptr) *count = static_cast<int64_t>(values.size());
  if (to == nullptr) return;
  const size_t given = std::min(values.size(), static_cast<size_t>(most));
  std::memcpy(to, values.data(), given * sizeof(T));
}

Snapshot engine_descriptor(int64_t number, const Snapshot& graph) {
  auto engine = std::make_shared<Descriptor>();
  engine->type = CUDNN_BACKEND_ENGINE_DESCRIPTOR;
  engine->finalized = true;
  engine->attributes[CUDNN_ATTR_ENGINE_OPERATION_GRAPH] = {CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, {}, {graph}};
  std::vector<std::byte> bytes(sizeof number);
  std::memcpy(bytes.data(), &number, sizeof number);
  engine->attributes[CUDNN_ATTR_ENGINE_GLOBAL_INDEX] = {CUDNN_TYPE_INT64, 1, bytes, {}};
  return engine;
}

void get(const Descriptor& of, cudnnBackendAttributeName_t name, int64_t most, int64_t* count, void* to) {
  auto* descriptors = static_cast<cudnnBackendDescriptor_t*>(to);
  switch (name) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS: {
      const std::vector<int64_t> numbers = listed(of.value<cudnnBackendHeurMode_t>(CUDNN_ATTR_ENGINEHEUR_MODE));
      *count = static_cast<int64_t>(numbers.size());
      for (size_t i = 0; i < numbers.size() && static_cast<int64_t>(i) < most; ++i) {
        Descriptor& config = as_descriptor(descriptors[i]);
        config.finalized = true;
        const Snapshot& graph = of.attribute(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH).descriptors.at(0);
        config.attributes[CUDNN_ATTR_ENGINECFG_ENGINE] = {
            CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, {}, {engine_descriptor(numbers[i], graph)}};
      }
      return;
    }
    case CUDNN_ATTR_ENGINECFG_ENGINE:
      as_descriptor(descriptors[0]) = of.child(name);
      if (count != nullptr) *count = 1;
      return;
    case CUDNN_ATTR_ENGINECFG_KNOB_CHOICES:
    case CUDNN_ATTR_ENGINE_KNOB_INFO:
    case CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE:
      *count = 0;
      return;
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE:
      return answer(engine_numbered(of.value<int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX)).notes, most, count, to);
    case CUDNN_ATTR_ENGINE_GLOBAL_INDEX:
      return answer(of.values<int64_t>(name), most, count, to);
    case CUDNN_ATTR_ENGINECFG_WORKSPACE_SIZE:
      return answer(std::vector{engine_of(of).workspace_bytes}, most, count, to);
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE: {
      const Descriptor& config = of.child(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
      return answer(std::vector{engine_of(config).workspace_bytes}, most, count, to);
    }
    default: {
      const Attribute& attribute = of.attribute(name);
      if (count != nullptr) *count = attribute.count;
      if (to != nullptr) std::memcpy(to, attribute.bytes.data(), attribute.bytes.size());
    }
  }
}

// Engines that fuse what follows a convolution want narrow types here.
bool has_engines(const Descriptor& graph) {
  if (graph.attribute(CUDNN_ATTR_OPERATIONGRAPH_OPS).descriptors.size() == 1) return true;
  return std::ranges::none_of(tensors_of(graph),
                              [](const auto& item) { return dtype_of(*item.second) == DType::kF32; });
}

void finalize(Descriptor& descriptor) {
  switch (descriptor.type) {
    case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR:
      if (!has_engines(descriptor.child(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH))) {
        throw Refusal(CUDNN_STATUS_NOT_SUPPORTED, "no engine");
      }
      break;
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR:
      if (const std::string fault = Execution::fault_of(descriptor); !fault.empty()) {
        throw Refusal(CUDNN_STATUS_NOT_SUPPORTED, fault);
      }
      break;
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR: {
      if (!engine_of(descriptor.child(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)).builds) {
        throw Refusal(CUDNN_STATUS_NOT_SUPPORTED, "the engine does not build");
      }
      break;
    }
    default:
      break;
  }
  descriptor.finalized = true;
}

template <class F>
cudnnStatus_t unless_refused(F does) {
  try {
    does();
  } catch (const Refusal& refusal) {
    last_error() = refusal.what();
    return refusal.status;
  }
  return CUDNN_STATUS_SUCCESS;
}

template <class F>
cudnnStatus_t call(const char* name, F does) {
  if (const int failure = fake_gpu_failure(name); failure != 0) {
    last_error() = std::string(name) + " was told to fail";
    return static_cast<cudnnStatus_t>(failure);
  }
  return unless_refused(does);
}

}  // namespace

extern "C" {

size_t cudnnGetVersion() { return CUDNN_VERSION; }
size_t cudnnGetCudartVersion() { return CUDART_VERSION; }

const char* cudnnGetErrorString(cudnnStatus_t status) {
  switch (status) {
    case CUDNN_STATUS_SUCCESS:
      return "CUDNN_STATUS_SUCCESS";
    case CUDNN_STATUS_NOT_SUPPORTED:
      return "CUDNN_STATUS_NOT_SUPPORTED";
    case CUDNN_STATUS_BAD_PARAM:
      return "CUDNN_STATUS_BAD_PARAM";
    case CUDNN_STATUS_EXECUTION_FAILED:
      return "CUDNN_STATUS_EXECUTION_FAILED";
    case CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED:
      return "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED";
    default:
      return "CUDNN_STATUS_INTERNAL_ERROR";
  }
}
void cudnnGetLastErrorString(char* message, size_t size) { std::snprintf(message, size, "%s", last_error().c_str()); }

cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  return call("cudnnCreate", [&] {
    *handle = reinterpret_cast<cudnnHandle_t>(new Handle);
    fake_gpu_made(*handle);
  });
}
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
  fake_gpu_destroyed(handle);
  delete reinterpret_cast<Handle*>(handle);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  return call("cudnnSetStream", [&] { reinterpret_cast<Handle*>(handle)->stream = stream; });
}
cudnnStatus_t cudnnGetStream(cudnnHandle_t handle, cudaStream_t* stream) {
  return call("cudnnGetStream", [&] { *stream = reinterpret_cast<Handle*>(handle)->stream; });
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t* descriptor) {
  return call("cudnnBackendCreateDescriptor", [&] {
    auto made = std::make_unique<Descriptor>();
    made->type = type;
    fake_gpu_made(made.get());
    *descriptor = made.release();
  });
}
cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
  if (descriptor == nullptr) return CUDNN_STATUS_BAD_PARAM;  // the frontend's, where it could not be made
  fake_gpu_destroyed(descriptor);
  delete static_cast<Descriptor*>(descriptor);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void* values) {
  return call("cudnnBackendSetAttribute", [&] {
    Descriptor& of = as_descriptor(descriptor);
    if (of.finalized) throw Refusal(CUDNN_STATUS_NOT_INITIALIZED, "an attribute is set after finalizing");
    Attribute attribute{type, count, {}, {}};
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
      for (int64_t i = 0; i < count; ++i) {
        const Descriptor& child = as_descriptor(static_cast<const cudnnBackendDescriptor_t*>(values)[i]);
        if (!child.finalized) throw Refusal(CUDNN_STATUS_BAD_PARAM, "a descriptor that is not finalized");
        attribute.descriptors.push_back(std::make_shared<const Descriptor>(child));
      }
    } else {
      const auto* begin = static_cast<const std::byte*>(values);
      attribute.bytes.assign(begin, begin + static_cast<size_t>(count) * width(type));
    }
    of.attributes[name] = std::move(attribute);
  });
}
// Cannot be told to fail: the frontend goes on as if it never did.
cudnnStatus_t cudnnBackendGetAttribute(const cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t, int64_t most, int64_t* count, void* values) {
  return unless_refused([&] {
    const Descriptor& of = as_descriptor(descriptor);
    if (!of.finalized) throw Refusal(CUDNN_STATUS_NOT_INITIALIZED, "an attribute is read before finalizing");
    get(of, name, most, count, values);
  });
}
cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) {
  return call("cudnnBackendFinalize", [&] { finalize(as_descriptor(descriptor)); });
}
cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack) {
  return call("cudnnBackendExecute",
              [&] { execute(*reinterpret_cast<Handle*>(handle), as_descriptor(plan), as_descriptor(pack)); });
}
}
