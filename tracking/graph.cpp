#include "tracking/graph.h"

#include "tracking/network_parts.h"
#include "vision/io/graph_models.h"

#include <algorithm>

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace comba::tracking {
namespace {

at::ScalarType dtype_of(const Network& network) {
  return network->backbone()->norm()->weight.scalar_type();
}

// Templates are the centres of the images.
at::Tensor templates_of(const NetworkConfig& config, const at::Tensor& images) {
  const int64_t side = config.template_size, first = (images.size(2) - side) / 2;
  const at::Tensor centre = images.narrow(2, first, side).narrow(3, first, side);
  return centre.unsqueeze(1).repeat({1, config.templates, 1, 1, 1});
}

void describe_images(const NetworkConfig& config, vision::GraphModel& graph) {
  graph.channels = config.backbone.in_channels;
  graph.side = std::max(config.backbone.image_size, config.template_size);
  graph.patch = config.backbone.patch_size;
}

vision::GraphModel template_graph(const Network& network) {
  vision::GraphModel graph;
  graph.name = "tracker_template";
  graph.model = network.ptr();
  graph.inputs = {"template"};
  graph.outputs = {"template_tokens"};
  graph.run = [network](const vision::Tensors& inputs) -> vision::Tensors {
    return {embed_templates(*network, inputs[0].to(dtype_of(network))).to(at::kFloat)};
  };
  describe_images(network->config(), graph);
  graph.inputs_of = [network](const at::Tensor& images) -> vision::Tensors {
    return {templates_of(network->config(), images)};
  };
  return graph;
}

vision::GraphModel search_graph(const Network& network) {
  vision::GraphModel graph;
  graph.name = "tracker_search";
  graph.model = network.ptr();
  graph.inputs = {"template_tokens", "search"};
  graph.outputs = {"score", "size", "offset"};
  graph.run = [network](const vision::Tensors& inputs) -> vision::Tensors {
    const CenterMaps maps =
        find_target(*network, inputs[0].to(dtype_of(network)), inputs[1].to(dtype_of(network)));
    return {maps.score, maps.size, maps.offset};
  };
  describe_images(network->config(), graph);
  graph.inputs_of = [network](const at::Tensor& images) -> vision::Tensors {
    const at::NoGradGuard no_grad;
    const int64_t side = network->config().backbone.image_size;
    const at::Tensor templates = templates_of(network->config(), images).to(dtype_of(network));
    return {embed_templates(*network, templates).to(at::kFloat),
            images.narrow(2, 0, side).narrow(3, 0, side)};
  };
  return graph;
}

}  // namespace

std::vector<vision::GraphModel> tracker_graphs(const Network& network) {
  return {template_graph(network), search_graph(network)};
}

Network resized(const Network& network, int64_t image_size) {
  NetworkConfig config = network->config();
  config.backbone.image_size = image_size;
  Network target(config);
  target->eval();
  vision::Backbone backbone = target->backbone();
  vision::copy_resized(*network->backbone(), *backbone);
  const at::NoGradGuard no_grad;
  const auto copy = [](const auto& from, const auto& to) {
    for (auto& item : to) {
      item.value().copy_(from[item.key()]);
    }
  };
  copy(network->head()->named_parameters(), target->head()->named_parameters());
  copy(network->head()->named_buffers(), target->head()->named_buffers());
  return target;
}

std::map<std::string, std::string> graph_metadata(const TrackConfig& config) {
  std::map<std::string, std::string> metadata = make_metadata(config);
  metadata.erase("format");
  const auto json = [](const std::vector<double>& values) { return nlohmann::json(values).dump(); };
  metadata["comba.task"] = config.task;
  metadata["comba.image_size"] = std::to_string(config.network.backbone.image_size);
  metadata["comba.template_size"] = std::to_string(config.network.template_size);
  metadata["comba.mean"] = json(config.data.mean);
  metadata["comba.std"] = json(config.data.std);
  metadata["comba.search_factor"] = fmt::format("{}", config.data.crops.search_factor);
  metadata["comba.template_factor"] = fmt::format("{}", config.data.crops.template_factor);
  return metadata;
}

}  // namespace comba::tracking
