// comba bench loader: how fast images are read, decoded, augmented and put into batches, by the number of threads.
#include "datasets/augment.h"
#include "datasets/decode.h"
#include "datasets/loader.h"
#include "datasets/transform.h"
#include "tools/commands.h"
#include "tools/loader_rate.h"
#include "tools/machine.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/log.h"
#include "vision/base/random.h"
#include "vision/base/stopwatch.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace comba::tools {
namespace {

const std::vector<std::string> kStages = {"read", "decode", "crop", "augment", "all"};

struct Arguments {
  std::string data, split = "train", json;
  std::vector<std::string> stages = kStages;
  std::vector<int> threads;
  int repeats = 5;
  double seconds = 1.0;
  datasets::TransformOptions transform;
  int64_t batch_size = 128;

  Arguments() { transform.augment = "rand-m9-mstd0.5-inc1"; }
};

// A noisy photograph-like JPEG of 500 x 375 px and some 80 KB, for want of data.
class MadeUpImages final : public datasets::ImageSource {
 public:
  static constexpr int64_t kCount = 64;
  MadeUpImages() {
    for (int64_t i = 0; i < kCount; ++i) {
      files_.push_back(datasets::encode_jpeg(draw(i), 93));
    }
  }
  int64_t size() const override { return kCount; }
  datasets::EncodedSample read(int64_t index) const override {
    const std::string& file = files_[static_cast<size_t>(index)];
    return {{reinterpret_cast<const uint8_t*>(file.data()), file.size()}, {}, 0, name(index)};
  }
  int64_t label(int64_t) const override { return 0; }
  std::string name(int64_t index) const override { return fmt::format("made up {}", index); }
  std::string original(int64_t index) const override { return name(index); }
  const std::vector<std::string>& classes() const override { return classes_; }
  std::string fingerprint() const override { return "made up"; }

 private:
  // Waves under noise whose strength gives the usual bytes a pixel.
  static datasets::Image draw(int64_t index) {
    datasets::Image image{375, 500, 3, {}};
    RandomStream random(7, 0, static_cast<uint64_t>(index), RandomPurpose::synthesise);
    const double fx = random.uniform(0.01, 0.06), fy = random.uniform(0.01, 0.06);
    for (int y = 0; y < image.height; ++y) {
      for (int x = 0; x < image.width; ++x) {
        const double wave =
            128 + 60 * std::sin(fx * x + 2 * std::sin(fy * y)) + 24 * std::sin(0.4 * x + 0.3 * y);
        const auto grain = static_cast<double>(random.next() >> 27);
        for (int c = 0; c < 3; ++c) {
          image.pixels.push_back(static_cast<uint8_t>(
              std::clamp(wave + grain - 16 + 20 * c * std::sin(fy * x), 0.0, 255.0)));
        }
      }
    }
    return image;
  }
  std::vector<std::string> files_;
  std::vector<std::string> classes_{"made up"};
};

// Images a second that `threads` threads get through `work(index)` in about `seconds`.
double rate_of(int64_t images, int threads, double seconds,
               const std::function<void(int64_t)>& work) {
  std::atomic<int64_t> next = 0, done = 0;
  const Stopwatch watch;
  std::vector<std::thread> team;
  for (int i = 0; i < threads; ++i) {
    team.emplace_back([&] {
      while (watch.seconds() < seconds) {
        work(next++ % images);
        ++done;
      }
    });
  }
  for (std::thread& thread : team) {
    thread.join();
  }
  return static_cast<double>(done) / watch.seconds();
}

double measure(const std::string& stage, const std::shared_ptr<const datasets::ImageSource>& source,
               const Arguments& a, int threads) {
  if (stage == "all") {
    return loader_rate(source, a.transform, a.batch_size, threads, a.seconds);
  }
  datasets::TransformOptions options = a.transform;
  if (stage == "crop") {
    options.augment.clear();
    options.jitter = 0;
  }
  const datasets::TrainingTransform transform(options);
  std::atomic<uint64_t> kept = 0;  // so that nothing is left out
  return rate_of(source->size(), threads, a.seconds, [&](int64_t index) {
    const datasets::EncodedSample sample = source->read(index);
    if (stage == "read") {
      uint64_t sum = 0;
      for (size_t i = 0; i < sample.bytes.size(); i += 512) {
        sum += sample.bytes[i];
      }
      kept += sum;
    } else if (stage == "decode") {
      kept += datasets::decode_image(sample.bytes, 3, sample.name).pixels.back();
    } else {
      kept += transform.decode(sample.bytes, sample.name, {.index = index}).pixels.back();
    }
  });
}

using Rates = std::vector<std::vector<double>>;  // [stage][threads], medians

// Stages take turns, so that a noisy machine troubles all alike.
Rates measure_all(const std::shared_ptr<const datasets::ImageSource>& source, const Arguments& a) {
  std::vector<std::vector<std::vector<double>>> runs(
      a.stages.size(), std::vector<std::vector<double>>(a.threads.size()));
  for (int repeat = 0; repeat < a.repeats; ++repeat) {
    for (size_t s = 0; s < a.stages.size(); ++s) {
      for (size_t t = 0; t < a.threads.size(); ++t) {
        runs[s][t].push_back(measure(a.stages[s], source, a, a.threads[t]));
      }
    }
  }
  Rates medians(a.stages.size());
  for (size_t s = 0; s < a.stages.size(); ++s) {
    for (std::vector<double>& all : runs[s]) {
      const auto middle = all.begin() + static_cast<ptrdiff_t>(all.size() / 2);
      std::nth_element(all.begin(), middle, all.end());
      medians[s].push_back(*middle);
    }
  }
  return medians;
}

void print(const Rates& rates, const Arguments& a, int64_t images) {
  std::cout << fmt::format(
      "{} images, {}, to {} px, augment = \"{}\"; medians of {} runs, images/s\n{:<10}", images,
      a.data.empty() ? "made up, 500 x 375" : a.data, a.transform.image_size, a.transform.augment,
      a.repeats, "stage");
  for (const int threads : a.threads) {
    std::cout << fmt::format("{:>12}", fmt::format("{} threads", threads));
  }
  std::cout << "\n";
  for (size_t s = 0; s < a.stages.size(); ++s) {
    std::cout << fmt::format("{:<10}", a.stages[s]);
    for (const double rate : rates[s]) {
      std::cout << fmt::format("{:>12.0f}", rate);
    }
    std::cout << "\n";
  }
}

nlohmann::json to_json(const Rates& rates, const Arguments& a) {
  nlohmann::json machine, rows = nlohmann::json::array();
  for (const auto& [name, value] : machine_facts()) {
    machine[name] = value;
  }
  for (size_t s = 0; s < a.stages.size(); ++s) {
    for (size_t t = 0; t < a.threads.size(); ++t) {
      rows.push_back(
          {{"stage", a.stages[s]}, {"threads", a.threads[t]}, {"images_per_second", rates[s][t]}});
    }
  }
  return {{"machine", machine}, {"augment", a.transform.augment}, {"rows", rows}};
}

void run(Arguments a) {
  if (a.threads.empty()) {
    a.threads = {1, static_cast<int>(std::max(1U, std::thread::hardware_concurrency()))};
  }
  datasets::AugmentPolicy::parse(a.transform.augment, 0);  // before anything is measured
  std::shared_ptr<const datasets::ImageSource> source;
  if (a.data.empty()) {
    source = std::make_shared<MadeUpImages>();
  } else {
    source = datasets::open_images(a.data, a.split);
  }
  const Rates rates = measure_all(source, a);
  print(rates, a, source->size());
  if (!a.json.empty()) {
    write_file_atomic(a.json, to_json(rates, a).dump(2) + "\n");
    log::info("the figures are in {}", a.json);
  }
}

}  // namespace

void add_bench_loader_command(CLI::App& bench) {
  CLI::App* command =
      bench.add_subcommand("loader", "Reading, decoding and augmenting images on the CPU");
  const auto a = std::make_shared<Arguments>();
  command->add_option(
      "--data", a->data,
      "A pack, a folder of images, or tar archives (default: made-up images in memory)");
  command->add_option("--split", a->split, "Of the data")->capture_default_str();
  command
      ->add_option("--stage", a->stages,
                   "read; decode: whole images; crop: random resized crop and flip of what it "
                   "needs; augment: with "
                   "--augment; all: batches of the loader")
      ->check(CLI::IsMember(kStages))
      ->default_str("all of them");
  command->add_option("--threads", a->threads, "May be given several times (default: 1 and all)")
      ->check(CLI::Range(1, 1024));
  command->add_option("--image-size", a->transform.image_size, "px")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  command->add_option("--augment", a->transform.augment, "As data.augment in a config")
      ->capture_default_str();
  command->add_option("--batch", a->batch_size, "Of the stage all")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command->add_option("--repeats", a->repeats, "Runs whose median is reported")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_option("--seconds", a->seconds, "Of a run")
      ->check(CLI::Range(0.01, 3600.0))
      ->capture_default_str();
  command->add_option("--json", a->json, "Also write the figures here");
  command->footer("Example: comba bench loader --data imagenet/train --threads 1 --threads 16");
  command->callback([a] { run(*a); });
}

}  // namespace comba::tools
