// comba export: a trained model as files that other programs read.
#include "classify/graph.h"
#include "classify/predict.h"
#include "tools/commands.h"
#include "tools/onnx_check.h"
#include "tools/weights_options.h"
#include "tracking/graph.h"
#include "vision/base/error.h"
#include "vision/base/log.h"
#include "vision/io/examples.h"
#include "vision/io/graph_models.h"
#include "vision/io/onnx/onnx.h"
#include "vision/io/safetensors.h"
#include "vision/io/torchscript.h"

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <ATen/ops/cat.h>
#include <fmt/ranges.h>

namespace comba::tools {
namespace fs = std::filesystem;
namespace {

using Metadata = std::map<std::string, std::string>;

struct Arguments {
  std::string weights_path, what = "auto", output = "exported", dtype = "float32";
  std::vector<std::string> formats = {"safetensors"};
  std::string weights = "auto", config;
  int64_t image_size = 0;
  bool verify = false, external_data = false;
  std::vector<std::string> pictures;
};

// A model in the form that is to be written.
struct Export {
  std::string name;  // of its files
  std::shared_ptr<torch::nn::Module> model;
  std::vector<vision::GraphModel> graphs;  // one, or the two parts of a tracker
  Metadata weights_metadata;               // of the safetensors file
  Metadata graph_metadata;                 // of the others
  classify::RunConfig preparation;         // of pictures: transform, mean, std
  at::Tensor pictures;                     // normalised, to verify with; or undefined
};

bool takes(const Arguments& arguments, const std::string& format) {
  return std::find(arguments.formats.begin(), arguments.formats.end(), format) !=
         arguments.formats.end();
}

at::ScalarType dtype_of(const Arguments& arguments) {
  return arguments.dtype == "float16"    ? at::kHalf
         : arguments.dtype == "bfloat16" ? at::kBFloat16
                                         : at::kFloat;
}

void check_side(const Arguments& arguments, const vision::BackboneConfig& config) {
  if (arguments.image_size % config.patch_size != 0) {
    throw UsageError(
        fmt::format("--image-size {}: expected a multiple of the model's patches of {} px",
                    arguments.image_size, config.patch_size));
  }
}

// [N, C, S, S]
at::Tensor read_pictures(const std::vector<std::string>& paths, const classify::RunConfig& config) {
  const classify::Inputs inputs = classify::collect_inputs(paths);
  if (!inputs.missing.empty()) {
    throw UsageError(
        fmt::format("--pictures {}: no such file, no image below such a folder, no match",
                    inputs.missing.front()));
  }
  const vision::Normaliser normalise(config.data.mean, config.data.std, at::kCPU);
  std::vector<at::Tensor> pictures;
  for (const fs::path& path : inputs.files) {
    datasets::Batch batch;
    batch.size = 1;
    const datasets::Image image = classify::read_input(path, config);
    batch.pixels.assign(image.pixels.begin(), image.pixels.end());
    pictures.push_back(normalise(
        classify::pixels_of(batch, config.transform.image_size, config.transform.channels)));
  }
  return at::cat(pictures);
}

Export of_backbone(const vision::BackboneImpl& backbone, at::ScalarType dtype, Metadata metadata,
                   const classify::RunConfig& preparation) {
  vision::Backbone model = vision::backbone_of(backbone);
  vision::round_parameters(*model, dtype);
  metadata.erase("comba.classes");
  return {"backbone",  model.ptr(), {vision::backbone_graph(model)}, {{"format", "pt"}}, metadata,
          preparation, {}};
}

Export of_classifier(const Arguments& arguments) {
  classify::Bundle bundle =
      classify::load_bundle(arguments.weights_path, arguments.weights, at::kCPU, arguments.config);
  if (arguments.image_size > 0) {
    check_side(arguments, bundle.config.model);
    bundle.model = classify::resized(bundle.model, arguments.image_size);
    bundle.config.model.image_size = arguments.image_size;
    bundle.config.transform.image_size = arguments.image_size;
  }
  const Metadata metadata = classify::graph_metadata(bundle);
  if (arguments.what == "backbone") {
    return of_backbone(*bundle.model, dtype_of(arguments), metadata, bundle.config);
  }
  vision::round_parameters(*bundle.model, dtype_of(arguments));
  return {"classifier",
          bundle.model.ptr(),
          {classify::classifier_graph(bundle.model)},
          classify::make_metadata(bundle),
          metadata,
          bundle.config,
          {}};
}

Export of_tracker(const Arguments& arguments) {
  tracking::TrackerBundle bundle =
      tracking::load_tracker(arguments.weights_path, arguments.weights, at::kCPU);
  if (arguments.image_size > 0) {
    check_side(arguments, bundle.config.network.backbone);
    bundle.network = tracking::resized(bundle.network, arguments.image_size);
    bundle.config.network = bundle.network->config();
    bundle.config.data.crops.search_size = arguments.image_size;
  }
  const Metadata metadata = tracking::graph_metadata(bundle.config);
  classify::RunConfig preparation;
  preparation.transform.image_size = bundle.config.network.backbone.image_size;
  preparation.data.mean = bundle.config.data.mean;
  preparation.data.std = bundle.config.data.std;
  if (arguments.what == "backbone") {
    return of_backbone(*bundle.network->backbone(), dtype_of(arguments), metadata, preparation);
  }
  vision::round_parameters(*bundle.network, dtype_of(arguments));
  return {"tracker",
          bundle.network.ptr(),
          tracking::tracker_graphs(bundle.network),
          tracking::make_metadata(bundle.config),
          metadata,
          preparation,
          {}};
}

Export load(const Arguments& arguments) {
  const bool tracker =
      arguments.config.empty() && tracking::weights_task(arguments.weights_path) == "track";
  if (arguments.what != "auto" && arguments.what != "backbone" &&
      (arguments.what == "tracker") != tracker) {
    throw UsageError(
        fmt::format("--what {}: {} holds the weights of a {}; leave --what away, or give backbone",
                    arguments.what, arguments.weights_path, tracker ? "tracker" : "classifier"));
  }
  return tracker ? of_tracker(arguments) : of_classifier(arguments);
}

// Beyond this share of the largest answer, but at least of 1, a file is not what the model is.
double tolerance(at::ScalarType dtype) {
  return dtype == at::kFloat ? 1e-3 : dtype == at::kHalf ? 5e-2 : 3e-1;
}

double largest_of(const std::vector<vision::Example>& examples) {
  double largest = 1;
  for (const vision::Example& example : examples) {
    for (const at::Tensor& output : example.outputs) {
      largest = std::max(largest, output.abs().max().item<double>());
    }
  }
  return largest;
}

// What is said of it; throws where the difference is too large, or no number.
std::string judge(const fs::path& path, double difference, const Arguments& arguments,
                  const std::vector<vision::Example>& examples, const std::string& by) {
  const double largest = largest_of(examples), bound = tolerance(dtype_of(arguments)) * largest;
  COMBA_CHECK(
      difference <= bound,
      "verifying {}: run by {} it differs from the model by {:.1e}; expected at most {:.1e} "
      "for answers of up to {:.1f}; do not use the file, and report this",
      path.string(), by, difference, bound, largest);
  return fmt::format("largest difference {:.1e} ({})", difference, by);
}

double difference(const at::Tensor& a, const at::Tensor& b) {
  COMBA_CHECK(a.sizes() == b.sizes(), "comparing an export: expected shape [{}], got [{}]",
              fmt::join(b.sizes(), ", "), fmt::join(a.sizes(), ", "));
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

void report(const fs::path& path, const std::string& verdict) {
  std::cout << fmt::format("{:<44} {:>10.2f} MiB{}{}\n", path.string(),
                           static_cast<double>(fs::file_size(path)) / (1 << 20),
                           verdict.empty() ? "" : "   ", verdict)
            << std::flush;
}

void write_safetensors(const Arguments& arguments, const Export& source) {
  const fs::path path = fs::path(arguments.output) / (source.name + ".safetensors");
  vision::NamedTensors tensors;
  for (const auto& item : source.model->named_parameters()) {
    tensors.emplace_back(item.key(), item.value().detach());
  }
  for (const auto& item : source.model->named_buffers()) {
    tensors.emplace_back(item.key(), item.value());
  }
  vision::save_safetensors(path, tensors, source.weights_metadata);
  if (arguments.verify) {
    const vision::SafetensorsFile file = vision::load_safetensors(path);
    for (const auto& [name, tensor] : tensors) {
      COMBA_CHECK(at::equal(file.tensors.at(name), tensor),
                  "{}: tensor {} was not written as it is", path.string(), name);
    }
  }
  report(path, arguments.verify ? "read back, every bit the same" : "");
}

void write_torchscript(const Arguments& arguments, const Export& source,
                       const vision::GraphModel& graph, const vision::Recording& recording,
                       const std::vector<vision::Example>& examples) {
  const fs::path path = fs::path(arguments.output) / (graph.name + ".torchscript");
  vision::save_torchscript(path, recording, source.graph_metadata);
  double largest = 0;
  for (const vision::Example& example : examples) {
    const vision::Tensors outputs = vision::run_torchscript(path, example.inputs);
    for (size_t i = 0; i < outputs.size(); ++i) {
      const double found = difference(outputs[i], example.outputs.at(i));
      largest = found <= largest ? largest : found;  // NaN stays
    }
  }
  report(path, arguments.verify ? judge(path, largest, arguments, examples, "LibTorch") : "");
}

std::string verify_onnx(const fs::path& path, const Arguments& arguments,
                        const vision::GraphModel& graph,
                        const std::vector<vision::Example>& examples) {
  if (dtype_of(arguments) == at::kBFloat16) {
    log::warning("{} was written, but not run: onnxruntime has no bfloat16 products on the CPU",
                 path.string());
    return "not run: bfloat16";
  }
  const auto check = check_in_onnxruntime(path, graph, examples);
  if (!check) {
    log::warning(
        "{} was written, but not run: no Python with onnxruntime was found. pip install "
        "onnxruntime onnx, name that Python in COMBA_PYTHON and start again",
        path.string());
    return "not run: no Python with onnxruntime";
  }
  double largest = 0;
  for (const auto& [name, value] : check->differences) {
    largest = std::max(largest, value);
  }
  return judge(path, largest, arguments, examples,
               check->runtime + (check->structure ? ", onnx.checker passed" : ""));
}

void write_onnx(const Arguments& arguments, const Export& source, const vision::GraphModel& graph,
                const vision::Recording& recording, const std::vector<vision::Example>& examples) {
  const fs::path path = fs::path(arguments.output) / (graph.name + ".onnx");
  const bool beside = vision::onnx::save_onnx(
      path, graph, recording, source.graph_metadata,
      {.producer_version = COMBA_VERSION, .external_data = arguments.external_data});
  report(path, arguments.verify ? verify_onnx(path, arguments, graph, examples) : "");
  if (beside) {
    report(path.string() + ".data", "");
  }
}

void run_export(const Arguments& arguments) {
  Export source = load(arguments);
  if (!arguments.pictures.empty()) {
    source.pictures = read_pictures(arguments.pictures, source.preparation);
  }
  fs::create_directories(arguments.output);
  if (takes(arguments, "safetensors")) {
    write_safetensors(arguments, source);
  }
  if (!takes(arguments, "onnx") && !takes(arguments, "torchscript")) {
    return;
  }
  for (const vision::GraphModel& graph : source.graphs) {
    const vision::Recording recording = vision::record(graph);
    const auto examples = arguments.verify ? vision::make_examples(graph, source.pictures)
                                           : std::vector<vision::Example>();
    if (takes(arguments, "torchscript")) {
      write_torchscript(arguments, source, graph, recording, examples);
    }
    if (takes(arguments, "onnx")) {
      write_onnx(arguments, source, graph, recording, examples);
    }
  }
}

}  // namespace

void add_export_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("export", "Write trained weights as files for other programs");
  auto arguments = std::make_shared<Arguments>();
  add_weights_options(*command, arguments->weights_path, arguments->weights, arguments->config);
  command
      ->add_option("--format", arguments->formats,
                   "safetensors, onnx, torchscript; several with commas between them")
      ->delimiter(',')
      ->check(CLI::IsMember({"safetensors", "onnx", "torchscript"}));
  command
      ->add_option("--what", arguments->what,
                   "classifier or tracker (what the weights are), or backbone: its token map")
      ->check(CLI::IsMember({"auto", "backbone", "classifier", "tracker"}));
  command
      ->add_option("--image-size", arguments->image_size,
                   "side of the images (a tracker's search images) in px (default: as trained)")
      ->check(CLI::Range(1, 16384));
  command
      ->add_option("--dtype", arguments->dtype,
                   "of weights and products; inputs and outputs stay fp32")
      ->check(CLI::IsMember({"float32", "float16", "bfloat16"}));
  command->add_option("--output", arguments->output, "folder of the files (default: exported)");
  CLI::Option* verify =
      command->add_flag("--verify", arguments->verify,
                        "run what was written and print the largest difference from the model");
  command
      ->add_option("--pictures", arguments->pictures,
                   "image files or folders: verify with these too, not with made-up images alone")
      ->needs(verify);
  command->add_flag("--external-data", arguments->external_data,
                    "ONNX: weights in a file of their own, as always beyond 2 GiB");
  command->footer(
      "Graphs take any batch of normalised fp32 images [N, C, S, S]; labels, mean, std and crop "
      "are in their metadata.\n"
      "A tracker becomes two: tracker_template once for an object, tracker_search for each frame.\n"
      "Example: comba export runs/comba_t --format onnx,torchscript --verify");
  command->callback([arguments] { run_export(*arguments); });
}

}  // namespace comba::tools
