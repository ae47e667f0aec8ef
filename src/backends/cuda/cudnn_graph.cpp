// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/cudnn_graph.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string_view>

#include "backends/cuda/library.h"
#include "core/error.h"

void* cudnn_frontend::cudnn_dlhandle = nullptr;  // which the frontend declares, and its user defines

namespace triphase::cuda {
namespace {

namespace fe = cudnn_frontend;

constexpr size_t kOldestVersion = 90000;  // 9.0.0, as cudnnGetVersion counts
constexpr size_t kMostPlans = 8;          // kept of a convolution: each costs time to build and to try
constexpr int kFirstOfAnEngine = 4;       // before others of that engine
constexpr int64_t kWorkspaceBytes = 256 << 20;

// What an engine must not do: sum in less than f32, round inputs that are kept wider, or transform, which is other
// arithmetic than is counted, with errors that follow the largest element rather than each. With f32, tensor cores
// compute in TF32.
std::vector<fe::NumericalNote_t> forbidden(Precision precision) {
  std::vector<fe::NumericalNote_t> notes = {fe::NumericalNote_t::DOWN_CONVERT_INPUTS,
                                            fe::NumericalNote_t::REDUCED_PRECISION_REDUCTION,
                                            fe::NumericalNote_t::FFT,
                                            fe::NumericalNote_t::WINOGRAD,
                                            fe::NumericalNote_t::WINOGRAD_TILE_4x4,
                                            fe::NumericalNote_t::WINOGRAD_TILE_6x6,
                                            fe::NumericalNote_t::WINOGRAD_TILE_13x13};
  if (precision == Precision::kF32) notes.push_back(fe::NumericalNote_t::TENSOR_CORE);
  return notes;
}

fe::DataType_t data_type(Precision precision) {
  switch (dtype_of(precision)) {
    case DType::kBF16:
      return fe::DataType_t::BFLOAT16;
    case DType::kF16:
      return fe::DataType_t::HALF;
    default:
      return fe::DataType_t::FLOAT;
  }
}

// cuDNN's messages run over several lines, and may be very long.
std::string one_line(std::string_view text) {
  constexpr size_t kMost = 400;
  std::string line;
  for (const char character : text) {
    if (character != '\n') {
      line += character;
    } else if (!line.empty() && !line.ends_with("; ")) {
      line += "; ";
    }
  }
  while (line.ends_with("; ")) line.resize(line.size() - 2);
  return line.size() > kMost ? line.substr(0, kMost) + " ..." : line;
}

// Whether the name of a status, in a text, is one of those that say that there is too little memory.
bool tells_of_memory(std::string_view text) { return text.find("ALLOCATION_FAILED") != std::string_view::npos; }

[[noreturn]] void fail(const std::string& line) {
  if (tells_of_memory(line)) throw OutOfMemory("too little memory: " + line);
  throw VendorError(line);
}

// As check(), but where cuDNN says that it does not do this at all, throws Unimplemented.
void check_offered(fe::error_t error, const char* call, const std::string& what) {
  const bool unsupported = error.get_code() == fe::error_code_t::GRAPH_NOT_SUPPORTED ||
                           error.get_code() == fe::error_code_t::HEURISTIC_QUERY_FAILED ||
                           error.get_message().find("CUDNN_STATUS_NOT_SUPPORTED") != std::string::npos;
  if (unsupported) throw Unimplemented(what + ": cuDNN: " + one_line(error.get_message()));
  check(std::move(error), call);
}

const char* name_of(Convolution::Direction direction) {
  switch (direction) {
    case Convolution::Direction::kForward:
      return "forward";
    case Convolution::Direction::kBackwardData:
      return "backward_data";
    case Convolution::Direction::kBackwardWeights:
      return "backward_weights";
  }
  return "";
}

// "conv2d forward in f32 with x [2, 4, 8, 8], w [6, 2, 3, 3], y [2, 6, 4, 4], stride [2, 2], 2 groups, a bias"
std::string describe(const Convolution& convolution) {
  const auto& [direction, conv, x, w, y, precision, channels_last, epilogue] = convolution;
  std::string text = std::string("conv2d ") + name_of(direction) + " in " + std::string(to_string(precision)) +
                     " with x " + to_string(x) + ", w " + to_string(w) + ", y " + to_string(y);
  const auto add = [&](const char* what, const std::array<int64_t, 2>& found, const std::array<int64_t, 2>& usual) {
    if (found != usual) text += std::string(", ") + what + " " + to_string(Shape(found.begin(), found.end()));
  };
  const Window usual;
  add("stride", conv.window.stride, usual.stride);
  add("padding", conv.window.padding, usual.padding);
  add("dilation", conv.window.dilation, usual.dilation);
  if (conv.groups != 1) text += ", " + std::to_string(conv.groups) + " groups";
  if (channels_last) text += ", channels last";
  return text + (adds_bias(epilogue) ? ", a bias" : "") + (does_relu(epilogue) ? ", a ReLU" : "");
}

// "eng11" of "eng11_k2=1_k24=9".
std::string engine_of(const std::string& plan) { return plan.substr(0, plan.find('_')); }

// --- The graph of a convolution -----------------------------------------------------------------

using Tensor = std::shared_ptr<fe::graph::Tensor_attributes>;

// Every graph has the first three, and is given their addresses in this order.
enum Uid : int64_t { kX = 1, kW, kY, kBias };

std::vector<int64_t> strides_of(const Shape& shape, bool channels_last) {
  const int64_t area = shape[2] * shape[3];
  if (channels_last) return {area * shape[1], 1, shape[3] * shape[1], shape[1]};
  return {area * shape[1], area, shape[3], 1};
}

// What an engine may ask for: as much as it takes to lay out all operands anew, or more for small ones.
int64_t most_workspace_bytes(const Convolution& convolution) {
  const int64_t width = size_in_bytes(dtype_of(convolution.precision));
  const int64_t elements = element_count(convolution.x) + element_count(convolution.w) + element_count(convolution.y);
  return std::max(kWorkspaceBytes, 2 * elements * width);
}

template <class Attributes>
Attributes attributes(const Window& window) {
  const auto values = [](const std::array<int64_t, 2>& pair) { return std::vector(pair.begin(), pair.end()); };
  return Attributes()
      .set_padding(values(window.padding))
      .set_stride(values(window.stride))
      .set_dilation(values(window.dilation));
}

// Groups go without saying: w has C / groups input channels.
void build(fe::graph::Graph& graph, const Convolution& convolution) {
  using namespace fe::graph;
  const auto& [direction, conv, x, w, y, precision, channels_last, epilogue] = convolution;
  const auto strides = [last = channels_last](const Shape& shape) { return strides_of(shape, last); };
  const auto input = [&](Uid uid, const Shape& shape) {
    return graph.tensor(Tensor_attributes().set_uid(uid).set_dim(shape).set_stride(strides(shape)));
  };
  const auto set_output = [&](const Tensor& tensor, Uid uid, const Shape& shape) {
    tensor->set_output(true).set_uid(uid).set_dim(shape).set_stride(strides(shape));
  };
  graph.set_io_data_type(data_type(precision))
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT)
      .set_cuda_graph_retention(fe::CudaGraphRetention_t::NONE);  // whoever captures keeps the call
  switch (direction) {
    case Convolution::Direction::kForward: {
      const Tensor from_x = input(kX, x);
      const Tensor from_w = input(kW, w);
      Tensor result = graph.conv_fprop(from_x, from_w, attributes<Conv_fprop_attributes>(conv.window));
      const auto then = [&](fe::PointwiseMode_t mode, auto... more) {
        result->set_dim(y).set_stride(strides(y)).set_data_type(fe::DataType_t::FLOAT);  // in between, in f32
        result = graph.pointwise(result, more..., Pointwise_attributes().set_mode(mode));
      };
      if (epilogue != Epilogue::kNone) then(fe::PointwiseMode_t::ADD, input(kBias, {1, y[1], 1, 1}));
      if (does_relu(epilogue)) then(fe::PointwiseMode_t::RELU_FWD);
      set_output(result, kY, y);
      break;
    }
    case Convolution::Direction::kBackwardData: {
      const Tensor from_y = input(kY, y);
      const Tensor from_w = input(kW, w);
      set_output(graph.conv_dgrad(from_y, from_w, attributes<Conv_dgrad_attributes>(conv.window)), kX, x);
      break;
    }
    case Convolution::Direction::kBackwardWeights: {
      const Tensor from_y = input(kY, y);
      const Tensor from_x = input(kX, x);
      set_output(graph.conv_wgrad(from_y, from_x, attributes<Conv_wgrad_attributes>(conv.window)), kW, w);
      break;
    }
  }
}

}  // namespace

void check(cudnnStatus_t status, const char* call) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  fail(std::string(call) + ": " + one_line(fe::detail::get_last_error_string_()) + " (" +
       fe::detail::get_error_string(status) + ")");
}

void check(fe::error_t error, const char* call) {
  if (error.is_bad()) fail("cuDNN: " + std::string(call) + ": " + one_line(error.get_message()));
}

// The frontend keeps every function that it found, and cuDNN is never closed.
void open_cudnn() {
  static const Library library("cuDNN 9", {"libcudnn.so.9", "libcudnn.so"},
                               "install it from NVIDIA; where it came as the Python package nvidia-cudnn, its folder "
                               "nvidia/cudnn/lib must be in LD_LIBRARY_PATH");
  fe::cudnn_dlhandle = library.handle();
  const size_t version = fe::detail::get_backend_version();
  if (version < kOldestVersion) {
    throw LibraryMissing("cuDNN 9 or newer is needed, found " + fe::detail::convert_version_to_str(version));
  }
}

ConvolutionGraph::ConvolutionGraph(const Convolution& convolution, cudnnHandle_t handle,
                                   std::shared_ptr<const fe::DeviceProperties> device)
    : description_(describe(convolution)), epilogue_(convolution.epilogue) {
  try {
    build(graph_, convolution);
    if (device != nullptr) graph_.set_device_properties(std::move(device));
    check_offered(graph_.validate(), "Graph::validate", description_);
    check_offered(graph_.build_operation_graph(handle), "Graph::build_operation_graph", description_);
    check_offered(graph_.create_execution_plans({fe::HeurMode_t::A, fe::HeurMode_t::FALLBACK}),
                  "Graph::create_execution_plans", description_);
    graph_.deselect_numeric_notes(forbidden(convolution.precision))
        .deselect_workspace_greater_than(most_workspace_bytes(convolution));
    find_plans();
    check(graph_.prepare_variant_pack_template(), "Graph::prepare_variant_pack_template");
  } catch (const fe::cudnnException& error) {
    throw VendorError("cuDNN: " + one_line(error.what()));
  }
}

void ConvolutionGraph::find_plans() {
  std::vector<ConvolutionPlan> listed;
  std::set<std::string> names;
  for (int64_t index = 0; index < graph_.get_execution_plan_count(); ++index) {
    ConvolutionPlan plan{index, "", 0};
    check(graph_.get_plan_name_at_index(index, plan.name), "Graph::get_plan_name_at_index");
    if (names.insert(plan.name).second) listed.push_back(std::move(plan));  // else as another heuristic listed it
  }
  std::string failure;
  const auto keep = [&](ConvolutionPlan plan) {
    if (auto error = graph_.build_plan_at_index(plan.index); error.is_bad()) {
      if (error.get_message() != "Deselecting execution plan") failure = plan.name + ": " + error.get_message();
      return false;
    }
    check(graph_.get_workspace_size_plan_at_index(plan.index, plan.workspace_bytes),
          "Graph::get_workspace_size_plan_at_index");
    plans_.push_back(std::move(plan));
    return true;
  };
  // First some of each engine, lest all be the tiles of one; then what comes next.
  std::vector<ConvolutionPlan> others;
  std::map<std::string, int> of_engine;
  for (ConvolutionPlan& plan : listed) {
    if (plans_.size() == kMostPlans) break;
    int& kept = of_engine[engine_of(plan.name)];
    if (kept == kFirstOfAnEngine) {
      others.push_back(std::move(plan));
    } else if (keep(std::move(plan))) {
      ++kept;
    }
  }
  for (ConvolutionPlan& plan : others) {
    if (plans_.size() < kMostPlans) keep(std::move(plan));
  }
  std::ranges::sort(plans_, {}, &ConvolutionPlan::index);
  if (!plans_.empty()) return;
  if (failure.empty())
    failure = "all compute in less than asked for, by transforms, or in more workspace than they may take";
  throw Unimplemented(description_ + ": cuDNN: none of " + std::to_string(graph_.get_execution_plan_count()) +
                      " plans will do; " + one_line(failure));
}

void ConvolutionGraph::run(const ConvolutionPlan& plan, cudnnHandle_t handle, const ConvolutionOperands& operands,
                           std::byte* workspace) const {
  void* addresses[] = {operands.x, operands.w, operands.y, operands.bias};  // by Uid
  const int count = epilogue_ == Epilogue::kNone ? 3 : 4;
  check(graph_.execute_plan_at_index(handle, addresses, count, workspace, plan.index), "Graph::execute_plan_at_index");
}

}  // namespace triphase::cuda
