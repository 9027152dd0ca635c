#include "vision/io/graph_models.h"

#include "vision/base/error.h"

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
  constexpr std::array<std::string_view, 4> kNames = {"A_log", "dt_bias", "decay", "D"};
  return std::find(kNames.begin(), kNames.end(), leaf) != kNames.end();
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
    if (item.key() == kPositions && values.sizes() != item.value().sizes()) {
      const int64_t patches = source.config().patches();
      values = at::cat({values.narrow(1, 0, values.size(1) - patches),
                        source.positions(target.config().image_size / target.config().patch_size)},
                       1);
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
