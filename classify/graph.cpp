#include "classify/graph.h"

#include "vision/base/error.h"
#include "vision/io/graph_models.h"

#include <ATen/core/grad_mode.h>
#include <nlohmann/json.hpp>

namespace comba::classify {

vision::GraphModel classifier_graph(const Classifier& model) {
  const vision::BackboneConfig& config = model->config();
  vision::GraphModel graph;
  graph.name = "classifier";
  graph.model = model.ptr();
  graph.inputs = {"input"};
  graph.outputs = {"logits"};
  graph.run = [model](const vision::Tensors& inputs) -> vision::Tensors {
    Classifier classifier = model;
    return {
        classifier->forward(inputs[0].to(classifier->head->weight.scalar_type())).to(at::kFloat)};
  };
  graph.channels = config.in_channels;
  graph.side = config.image_size;
  graph.patch = config.patch_size;
  graph.inputs_of = [](const at::Tensor& images) -> vision::Tensors { return {images}; };
  return graph;
}

Classifier resized(const Classifier& model, int64_t image_size) {
  vision::BackboneConfig config = model->config();
  config.image_size = image_size;
  Classifier target(config, model->classes());
  vision::copy_resized(*model, *target);
  target->eval();
  return target;
}

std::map<std::string, std::string> graph_metadata(const Bundle& bundle) {
  const RunConfig& config = bundle.config;
  std::map<std::string, std::string> metadata = make_metadata(bundle);
  metadata.erase("format");
  const auto json = [](const std::vector<double>& values) { return nlohmann::json(values).dump(); };
  metadata["comba.task"] = config.task;
  metadata["comba.image_size"] = std::to_string(config.model.image_size);
  metadata["comba.mean"] = json(config.data.mean);
  metadata["comba.std"] = json(config.data.std);
  metadata["comba.crop"] = fmt::format("{}", config.transform.eval_crop);
  metadata["comba.interpolation"] = "bicubic";
  return metadata;
}

}  // namespace comba::classify
