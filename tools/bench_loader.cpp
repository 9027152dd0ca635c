// comba bench loader: how fast images are read, decoded, augmented and put into batches, by the number of threads, and how
// fast they get to a GPU.
#include "classify/encoded_images.h"
#include "datasets/augment.h"
#include "datasets/decode.h"
#include "datasets/loader.h"
#include "datasets/transform.h"
#include "kernels/image/nvjpeg.h"
#include "tools/commands.h"
#include "tools/loader_rate.h"
#include "tools/machine.h"
#include "tools/made_up_images.h"
#include "tools/transfer_rate.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/log.h"
#include "vision/base/stopwatch.h"
#include "vision/engine/precision.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace comba::tools {
namespace {

const std::vector<std::string> kStages = {"read", "decode", "crop",  "augment",
                                          "all",  "h2d",    "nvjpeg"};

struct Arguments {
  std::string data, split = "train", json, device = "auto";
  std::vector<std::string> stages = kStages;
  std::vector<int> threads;
  int repeats = 5;
  double seconds = 1.0;
  datasets::TransformOptions transform;
  int64_t batch_size = 128;
  double nvjpeg_share = 0.0;
  datasets::BatchMemory memory;

  Arguments() { transform.augment = "rand-m9-mstd0.5-inc1"; }
};

// What a run of a stage found: images a second, and what else there is to say, in the order in which it is printed.
struct Found {
  double images_per_second = 0.0;
  std::vector<std::pair<std::string, double>> more;
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

using Source = std::shared_ptr<const datasets::ImageSource>;

double host_rate(const std::string& stage, const Source& source, const Arguments& a, int threads) {
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

Found measure(const std::string& stage, const Source& source, const Arguments& a,
              const c10::Device& device, int threads) {
  if (stage == "all") {
    const LoaderWork work{a.transform, a.batch_size, threads, device, a.memory, a.nvjpeg_share};
    const LoaderRate rate = loader_rate(source, work, a.seconds);
    Found found{rate.images_per_second,
                {{"wait_p50_ms", 1e3 * rate.wait_p50},
                 {"wait_p99_ms", 1e3 * rate.wait_p99},
                 {"read_percent", 100 * rate.read},
                 {"decode_percent", 100 * rate.decode},
                 {"full_percent", 100 * rate.full},
                 {"ready_percent", 100 * rate.ready},
                 {"pinned_mib", static_cast<double>(rate.pinned_bytes) / (1 << 20)}}};
    if (a.nvjpeg_share > 0) {
      found.more.emplace_back("nvjpeg_percent", 100 * rate.nvjpeg);
    }
    return found;
  }
  if (stage == "h2d") {
    const int64_t side = a.transform.image_size;
    const TransferRate rate = copy_rate(a.batch_size * side * side * a.transform.channels,
                                        a.batch_size, device, a.seconds);
    return {rate.images_per_second, {{"gb_per_second", 1e-9 * rate.bytes_per_second}}};
  }
  if (stage == "nvjpeg") {
    const NvJpegRate rate = nvjpeg_rate(*source, a.batch_size, threads, device, a.seconds);
    return {
        rate.images_per_second,
        {{"decoded_percent", 100 * rate.decoded}, {"engines", static_cast<double>(rate.engines)}}};
  }
  return {host_rate(stage, source, a, threads), {}};
}

using Table = std::vector<std::vector<Found>>;  // [stage][threads], the runs with the median rates

// Stages take turns, so that a noisy machine troubles all alike.
Table measure_all(const Source& source, const Arguments& a, const c10::Device& device) {
  std::vector<std::vector<std::vector<Found>>> runs(
      a.stages.size(), std::vector<std::vector<Found>>(a.threads.size()));
  for (int repeat = 0; repeat < a.repeats; ++repeat) {
    for (size_t s = 0; s < a.stages.size(); ++s) {
      for (size_t t = 0; t < a.threads.size(); ++t) {
        runs[s][t].push_back(measure(a.stages[s], source, a, device, a.threads[t]));
      }
    }
  }
  Table medians(a.stages.size());
  for (size_t s = 0; s < a.stages.size(); ++s) {
    for (std::vector<Found>& all : runs[s]) {
      const auto middle = all.begin() + static_cast<ptrdiff_t>(all.size() / 2);
      std::nth_element(all.begin(), middle, all.end(), [](const Found& one, const Found& other) {
        return one.images_per_second < other.images_per_second;
      });
      medians[s].push_back(*middle);
    }
  }
  return medians;
}

void print(const Table& table, const Arguments& a, const c10::Device& device, int64_t images) {
  std::cout << fmt::format(
      "{} images, {}, to {} px, augment = \"{}\", batches of {} on {}; medians of {} runs, "
      "images/s\n{:<10}",
      images, a.data.empty() ? "made up, 500 x 375" : a.data, a.transform.image_size,
      a.transform.augment, a.batch_size, device.str(), a.repeats, "stage");
  for (const int threads : a.threads) {
    std::cout << fmt::format("{:>12}", fmt::format("{} threads", threads));
  }
  std::cout << "\n";
  for (size_t s = 0; s < a.stages.size(); ++s) {
    std::cout << fmt::format("{:<10}", a.stages[s]);
    for (const Found& found : table[s]) {
      std::cout << fmt::format("{:>12.0f}", found.images_per_second);
    }
    std::cout << "\n";
  }
  for (size_t s = 0; s < a.stages.size(); ++s) {
    for (size_t t = 0; t < a.threads.size() && !table[s][t].more.empty(); ++t) {
      std::string line = fmt::format("{}, {} threads:", a.stages[s], a.threads[t]);
      for (const auto& [name, value] : table[s][t].more) {
        line += fmt::format(" {} {:.1f}", name, value);
      }
      std::cout << line << "\n";
    }
  }
  const ResidentMemory memory = resident_memory();
  std::cout << fmt::format("resident memory: {:.0f} MiB, at most {:.0f} MiB\n", memory.now_mib,
                           memory.most_mib);
}

nlohmann::json to_json(const Table& table, const Arguments& a, const c10::Device& device) {
  nlohmann::json machine, rows = nlohmann::json::array();
  for (const Facts& facts : {machine_facts(), gpu_facts()}) {
    for (const auto& [name, value] : facts) {
      machine[name] = value;
    }
  }
  for (size_t s = 0; s < a.stages.size(); ++s) {
    for (size_t t = 0; t < a.threads.size(); ++t) {
      nlohmann::json row = {{"stage", a.stages[s]},
                            {"threads", a.threads[t]},
                            {"images_per_second", table[s][t].images_per_second}};
      for (const auto& [name, value] : table[s][t].more) {
        row[name] = value;
      }
      rows.push_back(std::move(row));
    }
  }
  const ResidentMemory memory = resident_memory();
  return {{"machine", machine},
          {"device", device.str()},
          {"batch", a.batch_size},
          {"augment", a.transform.augment},
          {"nvjpeg_share", a.nvjpeg_share},
          {"resident_mib", memory.now_mib},
          {"resident_most_mib", memory.most_mib},
          {"rows", rows}};
}

// Takes out, and says so, what cannot be measured here.
void leave_out_stages(Arguments& a, const c10::Device& device) {
  const auto leave_out = [&](const char* stage, const std::string& reason) {
    if (!reason.empty() && std::erase(a.stages, stage) > 0) {
      log::warning("the stage {} is skipped: {}", stage, reason);
    }
  };
  const std::string no_gpu =
      device.is_cuda() ? "" : "no GPU is used (--device cuda; comba check lists what is there)";
  leave_out("h2d", no_gpu);
  leave_out("nvjpeg", no_gpu.empty() ? kernels::nvjpeg_missing() : no_gpu);
}

// Before anything is measured.
void check_nvjpeg_share(const Arguments& a, const c10::Device& device) {
  if (a.nvjpeg_share == 0) {
    return;
  }
  const std::string setting = fmt::format("--nvjpeg-share {}", a.nvjpeg_share);
  if (std::find(a.stages.begin(), a.stages.end(), "all") == a.stages.end()) {
    throw UsageError(fmt::format("{}: it is for the stage all, which is not measured", setting));
  }
  classify::nvjpeg_decoder(device, setting);  // throws where there is none
}

void run(Arguments a) {
  if (a.threads.empty()) {
    a.threads = {1, static_cast<int>(std::max(1U, std::thread::hardware_concurrency()))};
  }
  datasets::AugmentPolicy::parse(a.transform.augment, 0);  // before anything is measured
  const c10::Device device = vision::choose_device(a.device);
  check_nvjpeg_share(a, device);
  leave_out_stages(a, device);
  a.memory = kept_memory_for(device);
  Source source;
  if (a.data.empty()) {
    source = made_up_images();
  } else {
    source = datasets::open_images(a.data, a.split);
  }
  const Table table = measure_all(source, a, device);
  print(table, a, device, source->size());
  if (!a.json.empty()) {
    write_file_atomic(a.json, to_json(table, a, device).dump(2) + "\n");
    log::info("the figures are in {}", a.json);
  }
}

}  // namespace

void add_bench_loader_command(CLI::App& bench) {
  CLI::App* command = bench.add_subcommand(
      "loader", "Reading, decoding and augmenting images, and their way to a GPU");
  const auto a = std::make_shared<Arguments>();
  command->add_option(
      "--data", a->data,
      "A pack, a folder of images, or tar archives (default: made-up images in memory)");
  command->add_option("--split", a->split, "Of the data")->capture_default_str();
  command
      ->add_option("--stage", a->stages,
                   "read; decode: whole images; crop: random resized crop and flip of what it "
                   "needs; augment: with "
                   "--augment; all: batches of the loader, on CUDA as they reach the network; h2d: "
                   "copies of batches to the GPU; nvjpeg: whole images decoded by the GPU, a "
                   "decoder a thread")
      ->check(CLI::IsMember(kStages))
      ->default_str("all of them");
  command->add_option("--threads", a->threads, "May be given several times (default: 1 and all)")
      ->check(CLI::Range(1, 1024));
  command->add_option("--image-size", a->transform.image_size, "px")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  command->add_option("--augment", a->transform.augment, "As data.augment in a config")
      ->capture_default_str();
  command
      ->add_option("--device", a->device,
                   "auto, cpu, cuda or cuda:N: where batches of the stages all, h2d and nvjpeg go")
      ->capture_default_str();
  command->add_option("--batch", a->batch_size, "Images in a batch")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command
      ->add_option("--nvjpeg-share", a->nvjpeg_share,
                   "Of the stage all: share of the images whose JPEGs the GPU decodes, as "
                   "data.nvjpeg_share in a config")
      ->check(CLI::Range(0.0, 1.0))
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
