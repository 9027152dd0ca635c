// comba info: what a configuration builds, without training it.
#include "classify/classifier.h"
#include "classify/config.h"
#include "classify/recall/model.h"
#include "tools/commands.h"
#include "tools/model_table.h"
#include "tracking/config.h"
#include "tracking/network_cost.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/model_cost.h"

#include <map>
#include <memory>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace comba::tools {
namespace {

struct Arguments {
  std::string config, json;
  std::vector<std::string> assignments;
};

// Parameters of one top-level part of the model ("blocks.0.mixer", "patch_embed", "head").
struct Part {
  std::string name;
  int64_t parameters = 0;
  int64_t tensors = 0;
};

std::string part_of(const std::string& parameter) {
  // Blocks are shown by their children, everything else by its first component; a tracker's backbone is one deeper.
  const std::string_view backbone = "backbone.";
  const int outer = parameter.starts_with(backbone) ? 1 : 0;
  const auto inner = std::string_view(parameter).substr(outer == 1 ? backbone.size() : 0);
  const int depth = outer + (inner.starts_with("blocks.") ? 3 : 1);
  size_t at = 0;
  for (int i = 0; i < depth; ++i) {
    const size_t dot = parameter.find('.', at);
    if (dot == std::string::npos) {
      return parameter;
    }
    at = dot + 1;
  }
  return parameter.substr(0, at - 1);
}

std::vector<Part> parts_of(const torch::nn::Module& model) {
  std::vector<Part> parts;
  for (const auto& item : model.named_parameters()) {
    const std::string name = part_of(item.key());
    if (parts.empty() || parts.back().name != name) {
      parts.push_back({name});
    }
    parts.back().parameters += item.value().numel();
    parts.back().tensors += 1;
  }
  return parts;
}

int64_t total_of(const std::vector<Part>& parts) {
  int64_t total = 0;
  for (const Part& part : parts) {
    total += part.parameters;
  }
  return total;
}

void print_parts(const std::vector<Part>& parts) {
  fmt::print("{:<28}{:>10}{:>16}\n", "module", "tensors", "parameters");
  for (const Part& part : parts) {
    fmt::print("{:<28}{:>10}{:>16}\n", part.name, part.tensors, fmt::group_digits(part.parameters));
  }
  fmt::print("{:<38}{:>16}\n\n", "total", fmt::group_digits(total_of(parts)));
}

void write_json(const Arguments& arguments, nlohmann::ordered_json json,
                const std::vector<Part>& parts) {
  if (arguments.json.empty()) {
    return;
  }
  for (const Part& part : parts) {
    json["modules"].push_back(
        {{"name", part.name}, {"tensors", part.tensors}, {"parameters", part.parameters}});
  }
  write_file_atomic(arguments.json, json.dump(2) + "\n");
}

void print_cost(const vision::ModelCost& cost, const char* what) {
  fmt::print(
      "GMACs {}: {:.3f} dense, {:.3f} with token mixing (recurrence or attention products)\n", what,
      cost.dense / 1e9, cost.total() / 1e9);
}

void describe_classifier(const Arguments& arguments) {
  classify::RunConfig config;
  classify::read_run_config(arguments.config, arguments.assignments, config);
  const int64_t classes = config.classes > 0 ? config.classes : kImageNetClasses;
  const classify::Classifier model(config.model, classes);
  const std::vector<Part> parts = parts_of(*model);
  const vision::ModelCost cost = vision::model_cost(config.model, classes);
  print_parts(parts);
  fmt::print("input {0}x{0}x{1}, {2} patches, {3} classes{4}\n", config.model.image_size,
             config.model.in_channels, config.model.patches(), classes,
             config.classes > 0 ? "" : " (the data may have another number)");
  print_cost(cost, "an image");
  write_json(arguments,
             {{"config", arguments.config},
              {"classes", classes},
              {"parameters", total_of(parts)},
              {"macs_dense", cost.dense},
              {"macs_total", cost.total()},
              {"patches", config.model.patches()}},
             parts);
}

void describe_tracker(const Arguments& arguments) {
  tracking::TrackConfig config;
  tracking::read_track_config(arguments.config, arguments.assignments, config);
  const tracking::NetworkConfig& network = config.network;
  const std::vector<Part> parts = parts_of(*tracking::Network(network));
  const int64_t side = network.template_size / network.backbone.patch_size;
  const int64_t tokens = network.templates * side * side + network.backbone.patches();
  print_parts(parts);
  fmt::print("search {0}x{0}, {1} template{2} {3}x{3}, {4} tokens, map {5}x{5}\n",
             network.backbone.image_size, network.templates, network.templates > 1 ? "s" : "",
             network.template_size, tokens, network.cells());
  const vision::ModelCost cost = tracking::network_cost(network);
  print_cost(cost, "a search image with its templates");
  write_json(arguments,
             {{"config", arguments.config},
              {"parameters", total_of(parts)},
              {"macs_dense", cost.dense},
              {"macs_total", cost.total()},
              {"tokens", tokens},
              {"cells", network.cells()}},
             parts);
}

void describe_recall(const Arguments& arguments) {
  recall::RecallConfig config;
  recall::read_recall_config(arguments.config, arguments.assignments, config);
  const std::vector<Part> parts = parts_of(*recall::make_model(config));
  print_parts(parts);
  fmt::print("{} tokens, {} pairs, {} values\n", config.tokens(), config.data.pairs,
             config.data.vocabulary / 2);
  write_json(
      arguments,
      {{"config", arguments.config}, {"parameters", total_of(parts)}, {"tokens", config.tokens()}},
      parts);
}

void describe(const Arguments& arguments) {
  const std::string task = config_task(read_config_file(arguments.config), arguments.config);
  task == "track"    ? describe_tracker(arguments)
  : task == "recall" ? describe_recall(arguments)
                     : describe_classifier(arguments);
}

void run(const ModelTableOptions& options, bool table) {
  if (table) {
    print_model_table(options);
    return;
  }
  if (options.configs.size() != 1) {
    throw UsageError(
        fmt::format("comba info: CONFIG: expected one configuration, got {}; several, or all that "
                    "are shipped, go with --table",
                    options.configs.size()));
  }
  describe({options.configs[0], options.json, options.assignments});
}

}  // namespace

void add_info_command(CLI::App& app) {
  auto options = std::make_shared<ModelTableOptions>();
  auto as_table = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand(
      "info", "Prints the modules, parameters and multiply-accumulates of a model");
  command->add_option("CONFIG", options->configs,
                      "TOML file; with --table any number of them (default: all that are shipped)");
  command->add_option("--set", options->assignments, "Overrides a key, e.g. --set model.depth=6")
      ->allow_extra_args(false);
  command->add_option("--json", options->json, "Also writes the figures to this file");
  CLI::Option* table =
      command->add_flag("--table", *as_table,
                        "A line for each model, beside what others have published, with sources");
  command->add_flag("--markdown", options->markdown, "The table in Markdown")->needs(table);
  CLI::Option* measure =
      command->add_flag("--measure", options->measure, "Measures forward passes for the table")
          ->needs(table);
  command->add_option("--device", options->device, "To measure on: auto, cpu, cuda or cuda:N")
      ->needs(measure);
  command
      ->add_option("--batch", options->batch,
                   "Images at once when measuring (default: 256 on a GPU, 8 on the CPU)")
      ->check(CLI::Range(1, 1 << 20))
      ->needs(measure);
  command->add_option("--repeats", options->repeats, "Runs whose median is reported")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str()
      ->needs(measure);
  command->footer(
      "Examples:\n  comba info configs/imagenet/comba_t.toml\n  comba info "
      "configs/tracking/comba_t.toml\n  comba info --table --measure --markdown");
  command->callback([options, as_table] { run(*options, *as_table); });
}

}  // namespace comba::tools
