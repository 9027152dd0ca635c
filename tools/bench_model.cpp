// comba bench model and comba bench train: whole models on images that lie on the device; training steps as comba train
// takes them.
#include "classify/classifier.h"
#include "classify/config.h"
#include "tools/commands.h"
#include "tools/forward_rate.h"
#include "tools/machine.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/log.h"
#include "vision/base/stopwatch.h"
#include "vision/engine/device_memory.h"
#include "vision/engine/report.h"
#include "vision/engine/side_stream.h"
#include "vision/engine/training_step.h"

#include <algorithm>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/Context.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace comba::tools {
namespace {

constexpr int64_t kClasses = 1000;
constexpr int kWarmUps = 5;  // the recording's own, the recording and one replay

struct Arguments {
  std::vector<std::string> configs, assignments;
  std::vector<int64_t> batches = {1024}, sizes = {224};
  bool same_pixels = false;
  std::string device, json, plot;
  int repeats = 10;
};

struct Measured {
  std::string config;
  int64_t parameters = 0, batch = 0, size = 0;
  double milliseconds = 0;  // a step, or a forward pass as a CUDA graph where there is one
  double eager = 0;         // a forward pass launch by launch; 0 for steps
  int64_t peak_memory = 0;  // bytes
  double images_per_second() const { return 1e3 * static_cast<double>(batch) / milliseconds; }
};

// A model and one batch of noise with soft labels, over and over.
class HeldBatch final : public vision::Task {
 public:
  HeldBatch(const classify::RunConfig& config, const at::Device& device) : config_(config) {
    at::manual_seed(1);
    model_ = classify::Classifier(config.model, kClasses);
    model_->to(device);
    const int64_t size = config.model.image_size;
    images_ = at::randn({batch_size(), config.model.in_channels, size, size}, device);
    targets_ = at::rand({batch_size(), kClasses}, device).softmax(1);
  }
  classify::Classifier& classifier() { return model_; }
  const at::Tensor& images() const { return images_; }
  torch::nn::Module& model() override { return *model_; }
  int64_t steps_per_epoch() const override { return 1; }
  int64_t batch_size() const override { return config_.train.batch_size; }
  void start_epoch(int64_t, int64_t) override {}
  std::vector<torch::Tensor> next_batch() override { return {images_, targets_}; }
  torch::Tensor loss(const std::vector<torch::Tensor>& batch) override {
    return at::cross_entropy_loss(model_->forward(batch[0]).to(at::kFloat), batch[1]);
  }
  std::vector<at::Tensor> parameters() const { return model_->parameters(); }
  vision::Metrics evaluate() override { return {}; }
  std::string primary_metric() const override { return ""; }
  std::string data_fingerprint() const override { return ""; }
  std::map<std::string, std::string> weights_metadata() const override { return {}; }

 private:
  classify::RunConfig config_;
  classify::Classifier model_{nullptr};
  at::Tensor images_, targets_;
};

// The median of groups of steps, each ended by waiting for the device.
double milliseconds_a_step(vision::TrainingStep& step, const vision::SideStream& stream,
                           int repeats) {
  constexpr int kGroup = 3;
  const auto run = [&](int steps) {
    stream.run([&] {
      for (int i = 0; i < steps; ++i) {
        step.run(1e-4);
      }
    });
    stream.mark().wait();
  };
  run(kWarmUps);
  std::vector<double> times;
  for (int i = 0; i < repeats; ++i) {
    const Stopwatch watch;
    run(kGroup);
    times.push_back(1e3 * watch.seconds() / kGroup);
  }
  std::nth_element(times.begin(), times.begin() + repeats / 2, times.end());
  return times[static_cast<size_t>(repeats / 2)];
}

// A row of the table but for what is measured.
Measured begin_row(const std::string& path, const classify::RunConfig& config,
                   const HeldBatch& task) {
  Measured row{.config = std::filesystem::path(path).stem().string(),
               .batch = config.train.batch_size,
               .size = config.model.image_size};
  for (const at::Tensor& parameter : task.parameters()) {
    row.parameters += parameter.numel();
  }
  return row;
}

Measured measure_inference(const std::string& path, const classify::RunConfig& config,
                           const at::Device& device, int repeats) {
  HeldBatch task(config, device);
  Measured row = begin_row(path, config, task);
  task.model().eval();
  const ForwardRate rate =
      measure_forward([&] { return task.classifier()->forward(task.images()); },
                      vision::choose_precision(config.train.precision, device), device, repeats);
  row.milliseconds = rate.milliseconds;
  row.eager = rate.eager;
  row.peak_memory = rate.peak_memory;
  return row;
}

Measured measure_steps(const std::string& path, const classify::RunConfig& config,
                       const at::Device& device, int repeats) {
  const vision::SideStream stream(device, /*urgent=*/false);
  HeldBatch task(config, device);
  Measured row = begin_row(path, config, task);
  vision::reset_peak_memory(device);
  task.model().train();
  vision::Optimizer optimizer(task.model(), vision::optimizer_options(config.train));
  vision::TrainingStep step(task, optimizer,
                            {.precision = vision::choose_precision(config.train.precision, device),
                             .parts = config.train.accumulate,
                             .record = config.train.cuda_graph,
                             .same_tensors = true});
  stream.follow_current();
  row.milliseconds = milliseconds_a_step(step, stream, repeats);
  row.peak_memory = vision::device_memory(device).peak_allocated;
  return row;
}

void print_row(const Measured& row) {
  const double peak = static_cast<double>(row.peak_memory) / (1 << 30);
  std::cout << fmt::format("{:<16} {:>8} {:>6} {:>10.2f} {:>10.0f} {:>10}\n", row.config, row.batch,
                           row.size, row.milliseconds, row.images_per_second(),
                           row.peak_memory > 0 ? fmt::format("{:.2f}", peak) : "-")
            << std::flush;
}

nlohmann::ordered_json to_json(const std::vector<Measured>& rows, const at::Device& device) {
  nlohmann::ordered_json json{{"device", device.str()}};
  for (const auto& [name, value] : gpu_facts()) {
    json["gpus"][name] = value;
  }
  for (const Measured& row : rows) {
    json["rows"].push_back({{"config", row.config},
                            {"parameters", row.parameters},
                            {"batch", row.batch},
                            {"image_size", row.size},
                            {row.eager > 0 ? "forward_ms" : "step_ms", row.milliseconds},
                            {"eager_ms", row.eager},
                            {"images_per_second", row.images_per_second()},
                            {"peak_memory_bytes", row.peak_memory}});
  }
  return json;
}

// Images a second and memory against the side of the images.
std::string plots_of(const std::vector<Measured>& rows) {
  std::vector<vision::Series> rates, memory;
  for (const Measured& row : rows) {
    const auto add = [&row](std::vector<vision::Series>& series, double y) {
      auto found = std::ranges::find(series, row.config, &vision::Series::name);
      if (found == series.end()) {
        found = series.insert(found, {row.config, {}, {}});
      }
      found->xs.push_back(static_cast<double>(row.size));
      found->ys.push_back(y);
    };
    const auto batch = static_cast<double>(row.batch);
    add(rates, row.images_per_second());
    add(memory, static_cast<double>(row.peak_memory) / (1 << 20) / batch);
  }
  return vision::standalone_svg({vision::line_plot_svg({.title = "Images a second",
                                                        .x_label = "side of the images, px",
                                                        .y_label = "images/s",
                                                        .log_y = true},
                                                       rates),
                                 vision::line_plot_svg({.title = "Memory an image",
                                                        .x_label = "side of the images, px",
                                                        .y_label = "MiB",
                                                        .log_y = true},
                                                       memory)});
}

// As many pixels at once at every size as `batch` images of 224 px have; a multiple of 8 where there are so many.
int64_t batch_of(int64_t batch, int64_t size, bool same_pixels) {
  constexpr int64_t kSide = 224, kRound = 8;
  const int64_t scaled = same_pixels ? batch * kSide * kSide / (size * size) : batch;
  return scaled >= kRound ? scaled / kRound * kRound : std::max<int64_t>(scaled, 1);
}

using Measure = Measured (*)(const std::string&, const classify::RunConfig&, const at::Device&,
                             int);

void run_bench(const Arguments& a, const char* what, Measure measure) {
  const at::Device device = vision::choose_device(a.device.empty() ? "auto" : a.device);
  std::cout << fmt::format("{} on {}, medians of {}\n{:<16} {:>8} {:>6} {:>10} {:>10} {:>10}\n",
                           what, device.str(), a.repeats, "config", "batch", "size", "ms", "img/s",
                           "peak GiB");
  std::vector<Measured> rows;
  for (const int64_t size : a.sizes) {
    for (const int64_t batch : a.batches) {
      for (const std::string& path : a.configs) {
        classify::RunConfig config;
        std::vector<std::string> assignments = a.assignments;
        assignments.push_back(fmt::format("model.image_size={}", size));
        assignments.push_back(
            fmt::format("train.batch_size={}", batch_of(batch, size, a.same_pixels)));
        classify::read_run_config(path, assignments, config);
        rows.push_back(measure(path, config, device, a.repeats));
        print_row(rows.back());
      }
    }
  }
  if (!a.json.empty()) {
    write_file_atomic(a.json, to_json(rows, device).dump(2) + "\n");
    log::info("the figures are in {}", a.json);
  }
  if (!a.plot.empty()) {
    write_file_atomic(a.plot, plots_of(rows));
    log::info("the plots are in {}", a.plot);
  }
}

void add_verb(CLI::App& bench, const std::string& name, const std::string& description,
              const char* what, Measure measure) {
  CLI::App* verb = bench.add_subcommand(name, description);
  auto a = std::make_shared<Arguments>();
  verb->add_option("config", a->configs, "configuration files, measured one after the other")
      ->required()
      ->check(CLI::ExistingFile);
  verb->add_option("--set", a->assignments, "key=value of the configurations, as for comba train")
      ->allow_extra_args(false);
  verb->add_option("--batch", a->batches, "images at once; may be given several times")
      ->check(CLI::Range(1, 1 << 20))
      ->allow_extra_args(false);
  verb->add_option("--size", a->sizes, "side of the images, px; may be given several times")
      ->check(CLI::Range(1, 16384))
      ->allow_extra_args(false);
  verb->add_flag("--same-pixels", a->same_pixels,
                 "--batch is of images of 224 px; of larger ones fewer, to the same pixels");
  verb->add_option("--device", a->device, "auto, cpu, cuda or cuda:N");
  verb->add_option("--repeats", a->repeats, "measurements whose median is reported")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  verb->add_option("--json", a->json, "also write the figures here");
  verb->add_option("--plot", a->plot, "also draw rate and memory against --size here (SVG)");
  verb->footer(fmt::format(
      "Example: comba bench {} configs/imagenet/comba_t.toml configs/imagenet/deit_t.toml "
      "--batch 1024 --json {}.json",
      name, name));
  verb->callback([a, what, measure] { run_bench(*a, what, measure); });
}

}  // namespace

void add_bench_model_command(CLI::App& bench) {
  add_verb(bench, "model", "Forward passes of whole models on images that lie on the device",
           "forward passes, as CUDA graphs where there are any,", &measure_inference);
  add_verb(bench, "train", "Training steps of whole models on images that lie on the device",
           "training steps", &measure_steps);
}

}  // namespace comba::tools
