#include "tools/check_models.h"

#include "kernels/scan.h"
#include "tools/bench_timer.h"
#include "tools/machine.h"
#include "tracking/bundle.h"
#include "tracking/tracker.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/stopwatch.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <nlohmann/json.hpp>

namespace comba::tools {
namespace {

constexpr int kFrames = 6;

// A chequered square on its way over waves of grey.
datasets::Image made_up_frame(int width, int height, int number) {
  datasets::Image image{height, width, 3, {}};
  image.pixels.resize(static_cast<size_t>(width) * height * 3);
  const int side = height / 5, left = width / 3 + 4 * number, top = height / 3 + 2 * number;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const int wave = 90 + (x / 7 * 13 + y / 5 * 11) % 60;
      const int inside_x = x - left, inside_y = y - top;
      const bool inside = inside_x >= 0 && inside_x < side && inside_y >= 0 && inside_y < side;
      const bool dark = (inside_x * 4 / side + inside_y * 4 / side) % 2 == 0;
      uint8_t* pixel = image.row(y) + 3 * x;
      for (int channel = 0; channel < 3; ++channel) {
        pixel[channel] = static_cast<uint8_t>(!inside ? wave : dark ? 30 : 240 - 60 * channel);
      }
    }
  }
  return image;
}

tracking::Box first_box(int width, int height) {
  const int side = height / 5, x = width / 3, y = height / 3;
  return {static_cast<double>(x), static_cast<double>(y), static_cast<double>(side),
          static_cast<double>(side)};
}

struct Followed {
  std::array<double, 4> box{};
  double score = 0;
};

std::vector<Followed> follow(const std::filesystem::path& weights, const at::Device& device) {
  constexpr int kWidth = 320, kHeight = 240;
  tracking::Tracker tracker(tracking::load_tracker(weights, "auto", device), device);
  tracker.add(made_up_frame(kWidth, kHeight, 0), first_box(kWidth, kHeight));
  std::vector<Followed> all;
  for (int number = 1; number < kFrames; ++number) {
    const tracking::TrackedObject& object =
        tracker.update(made_up_frame(kWidth, kHeight, number)).front();
    all.push_back({{object.box.x, object.box.y, object.box.w, object.box.h}, object.score});
  }
  return all;
}

std::string hash_of(const std::filesystem::path& weights) {
  return tracking::load_tracker(weights, "auto", at::kCPU).hash;
}

CanaryRow compare(const std::vector<Followed>& found, const std::vector<Followed>& expected,
                  const at::Device& device) {
  CanaryRow row{.device = device.str()};
  row.box_allowed = device.is_cpu() ? 0.1 : 1.5;  // GPUs take the network in half width
  row.score_allowed = device.is_cpu() ? 1e-3 : 3e-2;
  const auto add = [](double& largest, double difference) {
    largest = std::isnan(difference) || difference > largest ? difference : largest;
  };
  for (size_t n = 0; n < expected.size(); ++n) {
    for (size_t i = 0; i < 4; ++i) {
      add(row.box, std::abs(found[n].box[i] - expected[n].box[i]));
    }
    add(row.score, std::abs(found[n].score - expected[n].score));
  }
  return row;
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

// What was measured: `comba bench scan`, `comba bench track` (kernels/README.md, tracking/README.md).
struct Known {
  const char* device;  // part of a GPU's name; "" for CPUs
  const char* what;
  double milliseconds;
  const char* measured_on;
};
constexpr const char* kScan = "scan, forward";
constexpr const char* kGradients = "scan, forward + backward";
constexpr const char* kFrame = "tracker, a frame of 1280 x 720";
constexpr Known kKnown[] = {
    {"H200", kScan, 0.058, "H200"},
    {"H200", kGradients, 0.365, "H200"},
    {"H200", kFrame, 0.96, "H200"},
    {"", kScan, 0.53, "two cores of a Xeon with AVX-512"},
    {"", kFrame, 26.5, "two cores of a Xeon with AVX-512"},
};

SpeedRow speed_row(const at::Device& device, const char* what, double milliseconds) {
  SpeedRow row{.device = device.str(), .what = what, .milliseconds = milliseconds};
  const std::string name = device.is_cpu() ? "" : gpu_name(device);
  for (const Known& known : kKnown) {
    if (known.what != std::string(what) || device.is_cpu() != (*known.device == '\0')) {
      continue;
    }
    row.nearest = known.milliseconds;
    row.measured_on = known.measured_on;
    if (!device.is_cpu() && name.find(known.device) != std::string::npos) {
      row.expected = known.milliseconds;
    }
  }
  return row;
}

// Comba-T's scan of 256 images in bf16 on a GPU, of one tracker's tokens in fp32 on a CPU.
void measure_scan(const at::Device& device, std::vector<SpeedRow>& rows) {
  const bool cuda = device.is_cuda();
  const int64_t batch = cuda ? 256 : 1, length = cuda ? 197 : 320, heads = 3, dim = 64;
  const auto options = at::TensorOptions(device);
  const auto half = options.dtype(cuda ? at::kBFloat16 : at::kFloat);
  const at::Tensor q = at::randn({batch, length, heads, dim}, half) / 8, k = q.clone(),
                   v = at::randn({batch, length, heads, dim}, half);
  const at::Tensor log_alpha = -0.1 * at::rand({2, batch, length, heads}, options),
                   beta = at::rand({2, batch, length, heads}, options);
  const auto forward = [=](const at::Tensor& rows_q) {
    return kernels::bidirectional_scan(rows_q, k, v, log_alpha, beta, beta, {}, 0.125, false,
                                       "mean");
  };
  const Timed once{[=](size_t) {
    const at::NoGradGuard no_grad;
    return std::vector<at::Tensor>{forward(q)};
  }};
  const DeviceTimer timer{device, 20};
  if (!cuda) {
    rows.push_back(speed_row(device, kScan, timer.eager({once})[0]));
    return;
  }
  const Timed there_and_back{[=](size_t) {
    const at::Tensor leaf = q.detach().requires_grad_();
    forward(leaf).backward(v);
    return std::vector<at::Tensor>{leaf.grad()};
  }};
  rows.push_back(speed_row(device, kScan, timer.graph({once})[0]));
  rows.push_back(speed_row(device, kGradients, timer.graph({there_and_back})[0]));
}

void measure_frames(const std::filesystem::path& weights, const at::Device& device,
                    std::vector<SpeedRow>& rows) {
  constexpr int kWidth = 1280, kHeight = 720, kWarmUps = 4, kTimes = 15;
  tracking::Tracker tracker(tracking::load_tracker(weights, "auto", device), device);
  tracker.add(made_up_frame(kWidth, kHeight, 0), first_box(kWidth, kHeight));
  const datasets::Image next = made_up_frame(kWidth, kHeight, 1);
  std::vector<double> times;
  for (int i = 0; i < kWarmUps + kTimes; ++i) {
    const Stopwatch watch;
    tracker.update(next);
    if (i >= kWarmUps) {
      times.push_back(1e3 * watch.seconds());
    }
  }
  rows.push_back(speed_row(device, kFrame, median(times)));
}

}  // namespace

std::vector<CanaryRow> check_canary(const std::filesystem::path& weights,
                                    const std::filesystem::path& record,
                                    const std::vector<at::Device>& devices) {
  std::vector<Followed> expected;
  try {
    const auto json = nlohmann::json::parse(read_file(record));
    const std::string hash = hash_of(weights);
    COMBA_CHECK(
        json.at("weights") == hash,
        "{} was recorded with weights {}, {} are {}: one of the two files is not what was shipped",
        record.string(), json.at("weights").get<std::string>(), weights.string(), hash);
    for (const auto& frame : json.at("frames")) {
      expected.push_back(
          {frame.at("box").get<std::array<double, 4>>(), frame.at("score").get<double>()});
    }
  } catch (const nlohmann::json::exception& error) {
    throw Error(fmt::format("reading {}: {}", record.string(), error.what()));
  }
  COMBA_CHECK(expected.size() == kFrames - 1, "reading {}: expected {} frames, got {}",
              record.string(), kFrames - 1, expected.size());
  std::vector<CanaryRow> rows;
  for (const at::Device& device : devices) {
    rows.push_back(compare(follow(weights, device), expected, device));
  }
  return rows;
}

void record_canary(const std::filesystem::path& weights, const std::filesystem::path& record) {
  nlohmann::ordered_json json{{"weights", hash_of(weights)}};
  for (const Followed& frame : follow(weights, at::kCPU)) {
    json["frames"].push_back({{"box", frame.box}, {"score", frame.score}});
  }
  write_file_atomic(record, json.dump(1) + "\n");
}

std::vector<SpeedRow> measure_speed(const std::filesystem::path& weights,
                                    const std::vector<at::Device>& devices) {
  std::vector<SpeedRow> rows;
  const int threads = at::get_num_threads();
  for (const at::Device& device : devices) {
    at::set_num_threads(device.is_cpu() ? std::min(threads, 2) : threads);
    measure_scan(device, rows);
    measure_frames(weights, device, rows);
  }
  at::set_num_threads(threads);
  return rows;
}

}  // namespace comba::tools
