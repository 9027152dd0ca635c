#include "vision/io/recording.h"

#include "kernels/composed/composed_operators.h"
#include "vision/base/error.h"
#include "vision/io/examples.h"

#include <set>

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <torch/csrc/jit/frontend/tracer.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>

namespace comba::vision {
namespace {

namespace jit = torch::jit;

constexpr int64_t kBatches[] = {2, 3};

// The module with this path below `root`, made where it is missing.
jit::Module submodule(const jit::Module& root, const std::string& path) {
  jit::Module at = root;
  size_t begin = 0;
  while (begin < path.size()) {
    const size_t dot = path.find('.', begin), end = dot == std::string::npos ? path.size() : dot;
    const std::string name = path.substr(begin, end - begin);
    if (!at.hasattr(name)) {
      at.register_module(name, jit::Module(c10::QualifiedName("__torch__.comba.Part"),
                                           at._ivalue()->compilation_unit(),
                                           /*shouldMangle=*/true));
    }
    at = at.attr(name).toModule();
    begin = end + 1;
  }
  return at;
}

// The parameters and buffers of `model` under their names, all or those in `used`; no methods.
jit::Module module_of(const torch::nn::Module& model, const std::string& name,
                      const std::set<std::string>* used) {
  const jit::Module root(c10::QualifiedName("__torch__.comba." + name));
  const auto add = [&](const std::string& path, const at::Tensor& values, bool is_buffer) {
    if (used == nullptr || used->contains(path)) {
      const size_t dot = path.rfind('.');
      submodule(root, dot == std::string::npos ? "" : path.substr(0, dot))
          .register_parameter(path.substr(dot == std::string::npos ? 0 : dot + 1), values,
                              is_buffer);
    }
  };
  for (const auto& item : model.named_parameters()) {
    add(item.key(), item.value(), /*is_buffer=*/false);
  }
  for (const auto& item : model.named_buffers()) {
    add(item.key(), item.value(), /*is_buffer=*/true);
  }
  return root;
}

jit::Stack to_stack(const Tensors& tensors) { return {tensors.begin(), tensors.end()}; }

std::shared_ptr<jit::Graph> trace(const GraphModel& model, jit::Module& module, int64_t batch) {
  const kernels::ComposedOperators composed;
  const auto run = [&](const jit::Stack& stack) -> jit::Stack {
    Tensors inputs;
    for (const c10::IValue& value : stack) {
      inputs.push_back(value.toTensor());
    }
    const Tensors outputs = model.run(inputs);
    if (outputs.size() == 1) {
      return {outputs[0]};
    }
    return {c10::ivalue::Tuple::create(std::vector<c10::IValue>(outputs.begin(), outputs.end()))};
  };
  const auto traced = jit::tracer::trace(
      to_stack(model.inputs_of(example_images(model, batch))), run,
      [](const at::Tensor&) { return ""; },
      /*strict=*/true, /*force_outplace=*/true, &module, model.inputs);
  const std::shared_ptr<jit::Graph> graph = traced.first->graph;
  jit::EliminateDeadCode(graph);
  return graph;
}

// Names of the parameters that the graph reads.
std::set<std::string> parameters_of(const jit::Graph& graph) {
  std::map<const jit::Value*, std::string> paths = {{graph.inputs()[0], ""}};
  std::set<std::string> used;
  for (const jit::Node* node : graph.nodes()) {
    if (node->kind() == c10::prim::GetAttr) {
      const std::string& owner = paths.at(node->input(0));
      const std::string& name = node->s(c10::attr::name);
      const std::string path = owner.empty() ? name : fmt::format("{}.{}", owner, name);
      paths[node->output()] = path;
      used.insert(path);
    }
  }
  return used;
}

std::vector<int64_t> sizes_of(const jit::Value* value) {
  const auto type = value->type()->cast<c10::TensorType>();
  const auto sizes = type ? type->sizes().concrete_sizes() : std::nullopt;
  return sizes.value_or(std::vector<int64_t>());
}

bool same_constant(const jit::Node& a, const jit::Node& b) {
  if (a.kind() != c10::prim::Constant) {
    return true;
  }
  const auto value = [](const jit::Node& node) { return jit::toIValue(node.output()); };
  const auto x = value(a), y = value(b);
  if (!x || !y || x->isTensor() || x->isNone()) {
    return true;
  }
  return x->tagKind() == y->tagKind() && *x == *y;
}

// Fills recording.shapes from the graph and the same one of another batch.
void compare(const GraphModel& model, const jit::Graph& other, Recording& recording) {
  const auto note = [&](const jit::Value* a, const jit::Value* b) {
    std::vector<int64_t> sizes = sizes_of(a);
    const std::vector<int64_t> others = sizes_of(b);
    COMBA_CHECK(sizes.size() == others.size(),
                "recording {}: %{} has {} dimensions for a batch of {} and {} for one of {}",
                model.name, a->debugName(), sizes.size(), kBatches[0], others.size(), kBatches[1]);
    for (size_t i = 0; i < sizes.size(); ++i) {
      COMBA_CHECK(sizes[i] == others[i] || sizes[i] * kBatches[1] == others[i] * kBatches[0],
                  "recording {}: a size of %{} is {} for a batch of {} and {} for one of {}; "
                  "expected a multiple of the batch",
                  model.name, a->debugName(), sizes[i], kBatches[0], others[i], kBatches[1]);
      sizes[i] = sizes[i] == others[i] ? sizes[i] : -1;
    }
    recording.shapes[a] = std::move(sizes);
  };
  const auto note_all = [&](at::ArrayRef<const jit::Value*> a, at::ArrayRef<const jit::Value*> b) {
    for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
      note(a[i], b[i]);
    }
  };
  const jit::Graph& graph = *recording.graph;
  note_all(graph.inputs(), other.inputs());
  auto node = graph.nodes().begin();
  auto twin = other.nodes().begin();
  for (; node != graph.nodes().end() && twin != other.nodes().end(); ++node, ++twin) {
    COMBA_CHECK(node->kind() == twin->kind() && same_constant(**node, **twin),
                "recording {}: {} depends on the size of the batch other than by shapes, so that "
                "what is recorded would hold for one size alone; used by {}",
                model.name, node->kind().toQualString(),
                node->outputs().empty() || node->output(0)->uses().empty()
                    ? "nothing"
                    : node->output(0)->uses().front().user->kind().toQualString());
    note_all(node->outputs(), twin->outputs());
  }
  COMBA_CHECK(node == graph.nodes().end() && twin == other.nodes().end(),
              "recording {}: its operators depend on the size of the batch", model.name);
}

}  // namespace

const std::vector<int64_t>& Recording::sizes(const jit::Value* value) const {
  return shapes.at(value);
}

Recording record(const GraphModel& model) {
  const at::NoGradGuard no_grad;
  jit::Module whole = module_of(*model.model, model.name, nullptr);
  const std::shared_ptr<jit::Graph> other = trace(model, whole, kBatches[1]);
  const std::set<std::string> used = parameters_of(*other);
  Recording recording{module_of(*model.model, model.name, &used), nullptr, {}};
  recording.graph = trace(model, recording.module, kBatches[0]);
  compare(model, *other, recording);
  jit::Function* forward = recording.module._ivalue()->compilation_unit()->create_function(
      c10::QualifiedName(*recording.module.type()->name(), "forward"), recording.graph);
  recording.module.type()->addMethod(forward);
  return recording;
}

}  // namespace comba::vision
