// comba eval: weights and images in, accuracy out.
#include "classify/bundle.h"
#include "classify/evaluate.h"
#include "classify/recall/task.h"
#include "tools/commands.h"
#include "tools/eval_tracker.h"
#include "tools/weights_options.h"
#include "tracking/bundle.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/log.h"
#include "vision/engine/precision.h"
#include "vision/engine/weights.h"
#include "vision/io/weights_file.h"

#include <cmath>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>

#include <nlohmann/json.hpp>

namespace comba::tools {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kMaxPrintedClasses = 20;

struct Arguments {
  std::string weights_path;
  std::string data;
  std::string split;
  std::string json;
  std::string weights = "auto";
  std::string device = "auto";
  std::string config;
  int64_t batch = 0;
  TrackerEvaluation tracker;
};

void apply(const Arguments& arguments, classify::RunConfig& config) {
  if (!arguments.data.empty()) {
    config.data.eval = arguments.data;
  }
  if (!arguments.split.empty()) {
    config.data.eval_split = arguments.split;
  }
  if (arguments.batch > 0) {
    config.train.batch_size = arguments.batch;
  }
  if (config.data.eval.empty() && config.data.train.empty()) {
    throw UsageError(
        fmt::format("evaluating {}: these weights do not say where the images are; give --data DIR",
                    arguments.weights_path));
  }
}

void print_table(const classify::Evaluation& result, const classify::Bundle& bundle) {
  std::cout << fmt::format(
      "weights  {}\nimages   {}\nloss     {:.4f}\ntop-1    {:.2f} %\ntop-5    {:.2f} %\n",
      bundle.weights.string(), result.count, result.loss, result.top1, result.top5);
  if (result.classes() > kMaxPrintedClasses) {
    std::cout << fmt::format("({} classes: --json FILE lists each)\n", result.classes());
    return;
  }
  std::cout << "class                     images  correct\n";
  for (int64_t c = 0; c < result.classes(); ++c) {
    const std::string share =
        result.count_of(c) > 0 ? fmt::format("{:.2f} %", result.accuracy_of(c)) : "no images";
    std::cout << fmt::format("{:<24} {:>7}  {:>9}\n", bundle.class_names[static_cast<size_t>(c)],
                             result.count_of(c), share);
  }
}

nlohmann::ordered_json to_json(const classify::Evaluation& result, const classify::Bundle& bundle) {
  nlohmann::ordered_json json = {{"weights", bundle.weights.string()},
                                 {"images", result.count},
                                 {"loss", result.loss},
                                 {"top1", result.top1},
                                 {"top5", result.top5}};
  for (int64_t c = 0; c < result.classes(); ++c) {
    nlohmann::ordered_json entry = {{"class", bundle.class_names[static_cast<size_t>(c)]},
                                    {"images", result.count_of(c)},
                                    {"top1", nullptr}};
    if (result.count_of(c) > 0) {
      entry["top1"] = result.accuracy_of(c);
    }
    const auto row = result.confusion.begin() + c * result.classes();
    entry["predicted"] = std::vector<int64_t>(row, row + result.classes());
    json["classes"].push_back(std::move(entry));
  }
  return json;
}

// A file that names no classes takes those of the data, in their order.
void settle_classes(classify::Bundle& bundle, const classify::BatchStream& stream) {
  const std::vector<std::string>& found = stream.classes();
  if (!bundle.classes_named) {
    COMBA_CHECK(found.size() == bundle.class_names.size(),
                "evaluating {}: the data has {} classes, the model {}; the images need the classes "
                "the model was trained with",
                bundle.weights.string(), found.size(), bundle.class_names.size());
    bundle.class_names = found;
    return;
  }
  for (size_t i = 0; i < found.size(); ++i) {
    const std::string expected = i < bundle.class_names.size() ? bundle.class_names[i] : "(none)";
    COMBA_CHECK(
        found[i] == expected,
        "evaluating {}: class {} of the data is \"{}\", the model's is \"{}\"; the images need the "
        "classes the model was trained with",
        bundle.weights.string(), i, found[i], expected);
  }
}

// Recall tasks make the examples that they are measured on.
void evaluate_recall(const Arguments& arguments) {
  if (!arguments.data.empty() || !arguments.split.empty()) {
    throw UsageError(fmt::format(
        "evaluating {}: it was trained on a recall task, which makes its examples; leave --data "
        "and --split away",
        arguments.weights_path));
  }
  const fs::path weights = vision::find_weights(arguments.weights_path, arguments.weights);
  const vision::WeightsFile file = vision::load_weights_file(weights, arguments.weights);
  recall::RecallConfig config;
  recall::read_recall_config_text(file.metadata.at("comba.config"),
                                  weights.string() + " (metadata)", {}, config);
  if (arguments.batch > 0) {
    config.train.batch_size = arguments.batch;
  }
  recall::RecallTask task(config, vision::choose_device(arguments.device));
  vision::load_weights(task.model(), file.tensors, weights);
  nlohmann::ordered_json json = {{"weights", weights.string()}};
  std::cout << fmt::format("weights  {}\n", weights.string());
  for (const auto& [name, value] : task.evaluate()) {
    std::cout << fmt::format("{:<8} {:.4g}{}\n", name, value, name == "loss" ? "" : " %");
    json[name] = value;
  }
  for (const auto& [distance, share] : task.by_distance()) {
    std::cout << fmt::format("  {:<40} {}\n", distance, share);
    json["by_distance"][distance] = share;
  }
  if (!arguments.json.empty()) {
    write_file_atomic(arguments.json, json.dump(2) + "\n");
  }
}

void run_eval(const Arguments& arguments) {
  const std::string task =
      arguments.config.empty() ? tracking::weights_task(arguments.weights_path) : "";
  if (task == "recall") {
    return evaluate_recall(arguments);
  }
  if (!arguments.tracker.benchmark.empty() || task == "track") {
    TrackerEvaluation tracker = arguments.tracker;
    tracker.weights_path = arguments.weights_path;
    tracker.weights = arguments.weights;
    tracker.device = arguments.device;
    tracker.data = arguments.data;
    tracker.json = arguments.json;
    return evaluate_tracker(tracker);
  }
  const c10::Device device = vision::choose_device(arguments.device);
  classify::Bundle bundle =
      classify::load_bundle(arguments.weights_path, arguments.weights, device, arguments.config);
  apply(arguments, bundle.config);
  const auto stream = classify::open_stream(bundle.config, classify::Purpose::evaluation);
  settle_classes(bundle, *stream);
  log::info("evaluating {} on {} images ({})", bundle.weights.string(), stream->size(),
            device.str());
  const classify::Evaluation result =
      classify::evaluate(bundle.model, *stream, bundle.config, device, /*examples=*/0);
  print_table(result, bundle);
  if (!arguments.json.empty()) {
    write_file_atomic(arguments.json, to_json(result, bundle).dump(2) + "\n");
  }
}

}  // namespace

void add_eval_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "eval", "Measure trained weights on labelled images, or a tracker on a benchmark");
  auto arguments = std::make_shared<Arguments>();
  add_weights_options(*command, arguments->weights_path, arguments->weights, arguments->config);
  command->add_option(
      "--data", arguments->data,
      "pack or folder of class folders (default: the run's own); a tracker's benchmark");
  command->add_option("--split", arguments->split,
                      "split of the data (default: the run's data.eval_split)");
  command->add_option("--json", arguments->json,
                      "also write the result, with the confusion matrix, here");
  command->add_option("--batch", arguments->batch, "images per batch (default: as in training)")
      ->check(CLI::Range(1, 1000000));
  command->add_option("--device", arguments->device,
                      "auto (CUDA if there is one), cpu, cuda or cuda:N; "
                      "for a tracker also several, cuda:0,cuda:1");
  command
      ->add_option("--benchmark", arguments->tracker.benchmark,
                   "for a tracker: whose layout --data has, got10k or lasot")
      ->check(CLI::IsMember({"got10k", "lasot"}));
  command->add_option(
      "--out", arguments->tracker.out,
      "for a tracker: result files go to a folder below this one (default: results); "
      "sequences that have them are not tracked again");
  command
      ->add_option(
          "--workers", arguments->tracker.workers,
          "for a tracker: sequences at a time, spread over the devices (default: one a GPU, "
          "on the CPU one a core)")
      ->check(CLI::Range(1, 256));
  command->footer(
      "Examples:\n  comba eval runs/mnist5k-1 --json result.json\n  comba eval runs/comba_t-1 "
      "--benchmark got10k --data GOT-10k/val");
  command->callback([arguments] { run_eval(*arguments); });
}

}  // namespace comba::tools
