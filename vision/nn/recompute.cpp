#include "vision/nn/recompute.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include <ATen/autocast_mode.h>
#include <ATen/core/ivalue.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/grad_mode.h>

namespace comba::vision {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Autocast as it was when this was made; the backward pass runs on threads that have none.
struct AutocastState {
  explicit AutocastState(c10::DeviceType of)
      : type(of),
        enabled(at::autocast::is_autocast_enabled(of)),
        dtype(at::autocast::get_autocast_dtype(of)) {}
  void restore() const {
    at::autocast::set_autocast_enabled(type, enabled);
    at::autocast::set_autocast_dtype(type, dtype);
  }
  c10::DeviceType type;
  bool enabled;
  at::ScalarType dtype;
};

struct AutocastGuard {
  explicit AutocastGuard(const AutocastState& state) : before(state.type) { state.restore(); }
  ~AutocastGuard() {
    at::autocast::clear_cache();  // of casts that this pass made
    before.restore();
  }
  AutocastGuard(const AutocastGuard&) = delete;
  AutocastGuard& operator=(const AutocastGuard&) = delete;
  AutocastState before;
};

// The inputs, of which some may be undefined, among the tensors that a node of the graph has, of which none may.
struct Held final : torch::CustomClassHolder {
  Held(TensorFunction what, const std::vector<at::Tensor>& inputs, const AutocastState& under)
      : function(std::move(what)), autocast(under) {
    for (const at::Tensor& input : inputs) {
      defined.push_back(input.defined());
    }
  }
  std::vector<at::Tensor> run(at::TensorList tensors) const {
    std::vector<at::Tensor> inputs;
    const at::Tensor* next = tensors.begin();
    for (const bool is_defined : defined) {
      inputs.push_back(is_defined ? *next++ : at::Tensor());
    }
    return function(inputs);
  }
  size_t count() const { return static_cast<size_t>(std::ranges::count(defined, true)); }
  TensorFunction function;
  std::vector<bool> defined;
  AutocastState autocast;
};

struct Recompute : torch::autograd::Function<Recompute> {
  // tensors: the inputs that are defined, then the parameters
  static variable_list forward(AutogradContext* context, const c10::intrusive_ptr<Held>& held,
                               at::TensorList tensors) {
    context->saved_data["held"] = c10::IValue::make_capsule(held);
    context->save_for_backward(tensors.vec());
    return held->run(tensors);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto held =
        c10::static_intrusive_pointer_cast<Held>(context->saved_data["held"].toCapsule());
    variable_list tensors = context->get_saved_variables();
    for (size_t i = 0; i < held->count(); ++i) {  // the graph before them is not this pass's
      tensors[i] = tensors[i].detach().requires_grad_(tensors[i].requires_grad());
    }
    variable_list outputs;
    {
      const torch::autograd::AutoGradMode grad_mode(true);
      const AutocastGuard autocast(held->autocast);
      outputs = held->run(tensors);
    }
    return gradients_of(outputs, gradients, tensors);
  }

  // One for each argument of forward(): `held` has none.
  static variable_list gradients_of(const variable_list& outputs, const variable_list& gradients,
                                    const variable_list& tensors) {
    variable_list wanted;
    std::ranges::copy_if(tensors, std::back_inserter(wanted),
                         [](const at::Tensor& tensor) { return tensor.requires_grad(); });
    const variable_list found = torch::autograd::grad(
        outputs, wanted, gradients, /*retain_graph=*/std::nullopt, /*create_graph=*/false,
        /*allow_unused=*/true);
    variable_list all(1);
    auto next = found.begin();
    for (const at::Tensor& tensor : tensors) {
      all.push_back(tensor.requires_grad() ? *next++ : at::Tensor());
    }
    return all;
  }
};

}  // namespace

std::vector<at::Tensor> recompute(TensorFunction function, const std::vector<at::Tensor>& inputs,
                                  const std::vector<at::Tensor>& parameters) {
  variable_list tensors;
  for (const std::vector<at::Tensor>* some : {&inputs, &parameters}) {
    std::ranges::copy_if(*some, std::back_inserter(tensors),
                         [](const at::Tensor& tensor) { return tensor.defined(); });
  }
  TORCH_CHECK(!tensors.empty(), "recompute: expected a tensor that is defined");
  const AutocastState autocast(tensors[0].device().type());
  // As a list: of vectors LibTorch does not look for tensors.
  return Recompute::apply(c10::make_intrusive<Held>(std::move(function), inputs, autocast),
                          at::TensorList(tensors));
}

}  // namespace comba::vision
