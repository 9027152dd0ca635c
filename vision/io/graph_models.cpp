#include "vision/io/graph_models.h"

#include "vision/base/error.h"
#include "vision/nn/agent_mixer.h"

#include <algorithm>
#include <array>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>

namespace comba::vision {
namespace {

constexpr const char* kPositions = "pos_embed";

// Whether `name` is a parameter that only the recurrence reads, "blocks.3.mixer.A_log_b".
bool of_recurrence(std::string_view name) {
  std::string_view leaf = name.substr(name.rfind('.') + 1);
  if (leaf.ends_with("_b")) {
    leaf.remove_suffix(2);
  }
  constexpr std::array<std::string_view, 5> kNames = {"A_log", "A_b_log", "dt_bias", "decay", "D"};
  return std::find(kNames.begin(), kNames.end(), leaf) != kNames.end();
}

// A parameter of `source` for the image size of `target`, where its shape follows the grid of patches.
at::Tensor resized(const std::string& name, const at::Tensor& values, at::IntArrayRef sizes,
                   const BackboneImpl& source, const BackboneConfig& target) {
  if (is_grid_bias(name)) {
    return resized_grid_bias(name, values, sizes);
  }
  COMBA_CHECK(name == kPositions, "copying a model: its parameter {} has another shape", name);
  at::Tensor positions = source.positions(target.image_size / target.patch_size);
  if (!target.has_class_token()) {
    return positions;
  }
  const int64_t before = target.class_token_at();
  return at::cat(
      {positions.narrow(1, 0, before), values.narrow(1, source.config().class_token_at(), 1),
       positions.narrow(1, before, positions.size(1) - before)},
      1);
}

}  // namespace

GraphModel backbone_graph(const Backbone& backbone) {
  const BackboneConfig& config = backbone->config();
  GraphModel graph;
  graph.name = "backbone";
  graph.model = backbone.ptr();
  graph.inputs = {"input"};
  graph.outputs = {"features"};
  graph.run = [backbone](const Tensors& inputs) -> Tensors {
    Backbone model = backbone;
    const int64_t cells = model->config().image_size / model->config().patch_size;
    const at::Tensor tokens =
        model->forward_tokens(inputs[0].to(model->norm()->weight.scalar_type()));
    return {tokens.transpose(1, 2).unflatten(2, {cells, cells}).to(at::kFloat)};
  };
  graph.channels = config.in_channels;
  graph.side = config.image_size;
  graph.patch = config.patch_size;
  graph.inputs_of = [](const at::Tensor& images) -> Tensors { return {images}; };
  return graph;
}

void copy_resized(const BackboneImpl& source, BackboneImpl& target) {
  const at::NoGradGuard no_grad;
  const auto from = source.named_parameters();
  for (auto& item : target.named_parameters()) {
    const at::Tensor* found = from.find(item.key());
    COMBA_CHECK(found != nullptr, "copying a model: it has no parameter {}", item.key());
    at::Tensor values = *found;
    if (values.sizes() != item.value().sizes()) {
      values = resized(item.key(), values, item.value().sizes(), source, target.config());
    }
    item.value().copy_(values);
  }
}

Backbone backbone_of(const BackboneImpl& source) {
  Backbone backbone(source.config());
  copy_resized(source, *backbone);
  backbone->eval();
  return backbone;
}

void round_parameters(torch::nn::Module& model, at::ScalarType dtype) {
  const auto round = [&](const std::string& name, at::Tensor& values) {
    if (at::isFloatingType(values.scalar_type()) && !of_recurrence(name)) {
      values.set_data(values.to(dtype));
    }
  };
  for (auto& item : model.named_parameters()) {
    round(item.key(), item.value());
  }
  for (auto& item : model.named_buffers()) {
    round(item.key(), item.value());
  }
}

}  // namespace comba::vision
