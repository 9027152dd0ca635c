// comba predict: images in, one JSON line each out.
#include "classify/predict.h"

#include "tools/commands.h"
#include "tools/weights_options.h"
#include "vision/base/error.h"
#include "vision/base/log.h"
#include "vision/engine/precision.h"
#include "vision/io/safetensors.h"

#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <nlohmann/json.hpp>

namespace comba::tools {
namespace fs = std::filesystem;
namespace {

constexpr size_t kBatch = 64;

struct Arguments {
  std::string weights_path;
  std::vector<std::string> inputs;
  int64_t topk = 5;
  std::string logits;
  std::string weights = "auto";
  std::string device = "auto";
  std::string config;
};

// Collects readable images and answers them in batches, in the order of the input.
class Session {
 public:
  Session(classify::Predictor predictor, int64_t topk)
      : predictor_(std::move(predictor)), topk_(topk) {}

  void add(const fs::path& path) {
    try {
      images_.push_back(classify::read_input(path, predictor_.bundle().config));
      waiting_.push_back(path);
    } catch (const Error& error) {
      fail(error.what());
    }
    if (images_.size() == kBatch) {
      flush();
    }
  }
  void fail(const std::string& message) {
    log::error("{}", message);
    ++failed_;
  }
  void flush() {
    if (images_.empty()) {
      return;
    }
    const at::Tensor logits = predictor_.logits(images_);
    for (size_t i = 0; i < waiting_.size(); ++i) {
      print(waiting_[i], logits[static_cast<int64_t>(i)]);
      done_.push_back(waiting_[i].string());
    }
    logits_.push_back(logits);
    images_.clear();
    waiting_.clear();
  }
  void save_logits(const std::string& path) const {
    const auto classes = static_cast<int64_t>(predictor_.bundle().class_names.size());
    const at::Tensor all = logits_.empty() ? at::empty({0, classes}) : at::cat(logits_);
    vision::save_safetensors(
        path, {{"logits", all}},
        {{"paths", nlohmann::json(done_).dump()},
         {"comba.classes", nlohmann::json(predictor_.bundle().class_names).dump()}});
  }
  size_t failed() const { return failed_; }
  size_t done() const { return done_.size(); }

 private:
  void print(const fs::path& path, const at::Tensor& logits) const {
    nlohmann::ordered_json line = {{"path", path.string()},
                                   {"top", nlohmann::ordered_json::array()}};
    for (const auto& [name, probability] : predictor_.top(logits, topk_)) {
      line["top"].push_back({{"class", name}, {"probability", probability}});
    }
    std::cout << line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << '\n'
              << std::flush;
  }

  classify::Predictor predictor_;
  int64_t topk_;
  std::vector<datasets::Image> images_;
  std::vector<fs::path> waiting_;
  std::vector<std::string> done_;
  std::vector<at::Tensor> logits_;
  size_t failed_ = 0;
};

void run_predict(const Arguments& arguments) {
  const c10::Device device = vision::choose_device(arguments.device);
  Session session(
      classify::Predictor(classify::load_bundle(arguments.weights_path, arguments.weights, device,
                                                arguments.config),
                          device),
      arguments.topk);
  const classify::Inputs inputs = classify::collect_inputs(arguments.inputs);
  for (const std::string& missing : inputs.missing) {
    session.fail(fmt::format("predicting {}: no such file, no image below such a folder, no match",
                             missing));
  }
  for (const fs::path& path : inputs.files) {
    session.add(path);
  }
  session.flush();
  if (!arguments.logits.empty()) {
    session.save_logits(arguments.logits);
  }
  COMBA_CHECK(session.failed() == 0, "{} of {} inputs could not be used (named above)",
              session.failed(), session.failed() + session.done());
}

}  // namespace

void add_predict_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("predict", "Classify images with trained weights");
  auto arguments = std::make_shared<Arguments>();
  add_weights_options(*command, arguments->weights_path, arguments->weights, arguments->config);
  command
      ->add_option("INPUT", arguments->inputs,
                   "image files, folders (searched below), or quoted globs")
      ->required();
  command->add_option("--topk", arguments->topk, "classes listed per image")
      ->check(CLI::Range(1, 100000));
  command->add_option("--logits", arguments->logits,
                      "also write the logits [images, classes] here (safetensors)");
  command->add_option("--device", arguments->device,
                      "auto (CUDA if there is one), cpu, cuda or cuda:N");
  command->footer(
      "Each line of the output is JSON: {\"path\": ..., \"top\": [{\"class\": ..., "
      "\"probability\": ...}, ...]}.\n"
      "An input that cannot be used is named on stderr; the others are answered, then the exit "
      "code is 1.\n"
      "Example: comba predict runs/mnist5k-1 photo.jpg 'folder/*.png' --topk 3");
  command->callback([arguments] { run_predict(*arguments); });
}

}  // namespace comba::tools
