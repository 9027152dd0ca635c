// comba bench track: a frame's way through the tracker, stage by stage, of several networks in one process.
#include "tools/bench_track.h"

#include "tools/bench_timer.h"
#include "tools/machine.h"
#include "tools/parse_numbers.h"
#include "tracking/config.h"
#include "tracking/tracker.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/log.h"
#include "vision/base/random.h"
#include "vision/base/stopwatch.h"
#include "vision/engine/precision.h"

#include <algorithm>
#include <array>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace comba::tools {
namespace {

using tracking::TrackConfig;

constexpr int kWarmUps = 5;
constexpr const char* kComba = "[model]\nwidth = 192\n";
constexpr const char* kDeit =
    "[model]\nwidth = 192\nmixer = \"softmax\"\nnorm = \"layer\"\nposition = \"learned\"\n"
    "qkv_bias = true\nmlp_bias = true\n";

struct Arguments {
  std::vector<std::string> configs;
  std::vector<int> objects = {1, 8};
  std::string device = "auto", frame = "1280x720", json;
  int threads = 0, repeats = 50;
};

struct Contender {
  std::string name;
  TrackConfig config;
};

// Medians, ms.
struct Measured {
  std::string name;
  int objects = 0;
  double crop = 0;     // of all objects
  double answer = 0;   // upload, network, answer
  double frame = 0;    // update() as a whole
  double network = 0;  // prepared, alone; on a GPU as a graph
  double trained = 0;  // as it is trained: module by module
};

std::vector<Contender> contenders_of(const std::vector<std::string>& configs) {
  std::vector<Contender> contenders;
  const auto add = [&](const std::string& name) -> TrackConfig& {
    contenders.push_back({name, {}});
    return contenders.back().config;
  };
  if (configs.empty()) {
    tracking::read_track_config_text(kComba, "Comba-T", ".", {}, add("Comba-T"));
    TrackConfig& half = add("Comba-T asym");
    tracking::read_track_config_text(kComba, "Comba-T", ".", {"model.asymmetric=true"}, half);
    tracking::read_track_config_text(kDeit, "DeiT-T", ".", {}, add("DeiT-T"));
  }
  for (const std::string& path : configs) {
    tracking::read_track_config(path, {}, add(std::filesystem::path(path).stem().string()));
  }
  return contenders;
}

datasets::Image noise(int width, int height) {
  RandomStream random(1, 0, 0, RandomPurpose::synthesise);
  datasets::Image image{height, width, 3, {}};
  image.pixels.resize(static_cast<size_t>(width) * height * 3);
  for (uint8_t& pixel : image.pixels) {
    pixel = static_cast<uint8_t>(random.below(256));
  }
  return image;
}

datasets::Image frame_of(const std::string& text) {
  const auto [width, height] = parse_size("--frame", text, 64, 16384);
  return noise(width, height);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Trackers of all contenders take turns on the same frames.
void measure_frames(const std::vector<Contender>& contenders, const datasets::Image& frame,
                    int objects, const c10::Device& device, int repeats,
                    std::vector<Measured>& rows) {
  tracking::TrackerOptions options;
  options.lost_below = 2;  // random weights: every target stays where it was put
  options.widen = options.widest = 1;
  std::vector<std::unique_ptr<tracking::Tracker>> trackers;
  for (const Contender& c : contenders) {
    tracking::TrackerBundle bundle;
    bundle.config = c.config;
    bundle.network = tracking::Network(c.config.network);
    trackers.push_back(std::make_unique<tracking::Tracker>(bundle, device, options));
    for (int n = 0; n < objects; ++n) {
      const double share = (n + 0.5) / objects;
      trackers.back()->add(frame, {share * frame.width * 0.9, share * frame.height * 0.8,
                                   frame.width * 0.07, frame.height * 0.12});
    }
  }
  std::vector<std::array<std::vector<double>, 3>> all(contenders.size());
  for (int i = -kWarmUps; i < repeats; ++i) {
    for (size_t k = 0; k < trackers.size(); ++k) {
      const Stopwatch watch;
      trackers[k]->update(frame);
      const double whole = watch.seconds();
      if (i >= 0) {
        all[k][0].push_back(trackers[k]->times().crop);
        all[k][1].push_back(trackers[k]->times().network);
        all[k][2].push_back(whole);
      }
    }
  }
  for (size_t k = 0; k < contenders.size(); ++k) {
    rows[k].crop = 1e3 * median(all[k][0]);
    rows[k].answer = 1e3 * median(all[k][1]);
    rows[k].frame = 1e3 * median(all[k][2]);
  }
}

void measure_networks(const std::vector<Contender>& contenders, int objects,
                      const c10::Device& device, int repeats, std::vector<Measured>& rows) {
  std::vector<Timed> prepared, trained;
  for (const Contender& c : contenders) {
    const auto& config = c.config.network;
    const int64_t side = config.backbone.image_size, target = config.template_size;
    tracking::Network network(config);
    network->to(device);
    network->eval();
    const auto fast = std::make_shared<tracking::PreparedNetwork>(network, c.config.data.mean,
                                                                  c.config.data.std, device);
    const auto bytes = at::TensorOptions().device(device).dtype(at::kByte);
    fast->set_templates(at::randint(256, {objects, config.templates, target, target, 3}, bytes));
    const at::Tensor pixels = at::randint(256, {objects, side, side, 3}, bytes);
    const at::Tensor z = at::randn({objects, config.templates, 3, target, target}, device),
                     x = at::randn({objects, 3, side, side}, device);
    prepared.push_back({[=](size_t) { return std::vector<at::Tensor>{fast->forward(pixels)}; }});
    trained.push_back({[=](size_t) mutable {
      const at::NoGradGuard no_grad;
      const vision::AutocastScope autocast(device.is_cuda() ? vision::Precision::bf16
                                                            : vision::Precision::fp32);
      const auto maps = network->forward(z, x);
      return std::vector<at::Tensor>{maps.score, maps.size, maps.offset};
    }});
  }
  const DeviceTimer timer{device, repeats};
  auto times = timer.graph(prepared);
  if (times.empty()) {
    times = timer.eager(prepared);
  }
  const auto slow = timer.eager(trained);
  for (size_t k = 0; k < contenders.size(); ++k) {
    rows[k].network = times[k];
    rows[k].trained = slow[k];
  }
}

void print_rows(const std::vector<Measured>& rows) {
  for (const Measured& row : rows) {
    std::cout << fmt::format("{:<16} {:>7} {:>9.3f} {:>9.3f} {:>9.3f} {:>9.3f} {:>11.3f}\n",
                             row.name, row.objects, row.crop, row.answer, row.frame, row.network,
                             row.trained)
              << std::flush;
  }
}

void run_bench(const Arguments& arguments) {
  if (arguments.threads > 0) {
    at::set_num_threads(arguments.threads);
  }
  const c10::Device device = vision::choose_device(arguments.device);
  const std::vector<Contender> contenders = contenders_of(arguments.configs);
  const datasets::Image frame = frame_of(arguments.frame);
  std::cout << fmt::format(
      "{}, {} threads, frames of {}; medians of {}, ms\n"
      "answer: upload, network, box; network: alone, prepared (a graph on a GPU); as trained: "
      "module by module\n"
      "{:<16} {:>7} {:>9} {:>9} {:>9} {:>9} {:>11}\n",
      device.str(), at::get_num_threads(), arguments.frame, arguments.repeats, "tracker", "objects",
      "crop", "answer", "frame", "network", "as trained");
  nlohmann::ordered_json json{{"device", device.str()},
                              {"threads", at::get_num_threads()},
                              {"frame", arguments.frame},
                              {"repeats", arguments.repeats}};
  for (const auto& [name, value] : gpu_facts()) {
    json["gpus"][name] = value;
  }
  for (const int objects : arguments.objects) {
    std::vector<Measured> rows;
    for (const Contender& c : contenders) {
      rows.push_back({c.name, objects});
    }
    measure_frames(contenders, frame, objects, device, arguments.repeats, rows);
    measure_networks(contenders, objects, device, arguments.repeats, rows);
    print_rows(rows);
    for (const Measured& row : rows) {
      json["rows"].push_back({{"tracker", row.name},
                              {"objects", row.objects},
                              {"crop_ms", row.crop},
                              {"answer_ms", row.answer},
                              {"frame_ms", row.frame},
                              {"network_ms", row.network},
                              {"network_as_trained_ms", row.trained}});
    }
  }
  if (!arguments.json.empty()) {
    write_file_atomic(arguments.json, json.dump(2) + "\n");
    log::info("the figures are in {}", arguments.json);
  }
}

}  // namespace

void add_bench_track_command(CLI::App& bench) {
  CLI::App* track = bench.add_subcommand(
      "track", "A tracker's frame stage by stage, Comba-T beside DeiT-T, with random weights");
  auto arguments = std::make_shared<Arguments>();
  track
      ->add_option("--config", arguments->configs,
                   "configurations of trackers to compare (default: Comba-T, whole and "
                   "asymmetric, and DeiT-T)")
      ->check(CLI::ExistingFile);
  track->add_option("--objects", arguments->objects, "followed at once; one table part for each")
      ->delimiter(',')
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  track->add_option("--frame", arguments->frame, "WIDTHxHEIGHT")->capture_default_str();
  track->add_option("--device", arguments->device, "auto, cpu or cuda")->capture_default_str();
  track->add_option("--threads", arguments->threads, "CPU threads (default: all)")
      ->check(CLI::Range(1, 1024));
  track->add_option("--repeats", arguments->repeats, "runs whose median is reported")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  track->add_option("--json", arguments->json, "also write the figures here");
  track->footer("Trackers take turns. Example: comba bench track --device cpu --threads 2");
  track->callback([arguments] { run_bench(*arguments); });
}

}  // namespace comba::tools
