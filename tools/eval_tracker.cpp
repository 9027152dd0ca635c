#include "tools/eval_tracker.h"

#include "tracking/frame_reader.h"
#include "tracking/run_benchmark.h"
#include "tracking/score_report.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/log.h"
#include "vision/base/progress.h"
#include "vision/engine/precision.h"

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>
#include <numeric>
#include <thread>
#include <utility>

#include <ATen/Parallel.h>
#include <nlohmann/json.hpp>

namespace comba::tools {
namespace fs = std::filesystem;
namespace {

// runs/comba_t-3/checkpoints/best/model.safetensors -> comba_t-3, and the weights' hash: results of other weights lie
// elsewhere.
std::string results_name(const tracking::TrackerBundle& bundle) {
  fs::path named = bundle.weights.parent_path();
  while (named.filename() == "best" || named.filename() == "last" ||
         named.filename() == "checkpoints") {
    named = named.parent_path();
  }
  const std::string name = named.filename().empty() || named == bundle.weights.parent_path()
                               ? bundle.weights.stem().string()
                               : named.filename().string();
  return fmt::format("{}-{}", name, bundle.hash);
}

void print_times(const tracking::BenchmarkTimes& times, const tracking::BenchmarkRun& run) {
  if (times.skipped_sequences > 0) {
    std::cout << fmt::format("left     {} sequences that had their results\n",
                             times.skipped_sequences);
  }
  if (times.frames == 0) {
    return;
  }
  const auto frames = static_cast<double>(times.frames);
  const double tracked = times.waiting + times.crop + times.network + times.rest;
  const auto ms = [&](double seconds) { return 1000 * seconds / frames; };
  std::cout << fmt::format(
      "frames   {} in {:.1f} s, {:.0f} a second; {} at a time, each with {} threads that decode "
      "ahead\n",
      times.frames, times.wall, frames / times.wall, run.workers.size(), run.decoders);
  const std::pair<const char*, double> stages[] = {{"waiting for frames", times.waiting},
                                                   {"crops", times.crop},
                                                   {"network", times.network},
                                                   {"the rest", times.rest}};
  std::cout << "times    of a frame, and share\n";
  for (const auto& [name, seconds] : stages) {
    std::cout << fmt::format("  {:<18} {:8.2f} ms {:5.1f} %\n", name, ms(seconds),
                             100 * seconds / tracked);
  }
  std::cout << fmt::format("  {:<18} {:8.2f} ms, beside these\nbound by {}\n", "decoding",
                           ms(times.decode), tracking::bottleneck(times));
}

// The devices of the workers, in turn. On the CPU each has one thread, so that results do not depend on how many they are.
tracking::BenchmarkRun plan(const TrackerEvaluation& arguments) {
  const std::vector<c10::Device> devices = vision::choose_devices(arguments.device);
  const bool gpu = devices[0].is_cuda();
  const size_t cores = std::max(1U, std::thread::hardware_concurrency());
  const size_t workers = arguments.workers > 0 ? static_cast<size_t>(arguments.workers)
                         : gpu                 ? devices.size()
                                               : cores;
  tracking::BenchmarkRun run;
  run.per_sequence = arguments.benchmark == "got10k";
  run.workers.clear();
  for (size_t n = 0; n < workers; ++n) {
    run.workers.push_back(devices[n % devices.size()]);
  }
  if (gpu) {
    run.decoders =
        static_cast<int>(std::clamp<size_t>(cores / workers, 1, tracking::FrameReader::kAhead));
  } else {
    at::set_num_threads(1);
  }
  return run;
}

// The benchmark's scores; nothing where its annotations are not public (GOT-10k's test split).
void print_scores(const TrackerEvaluation& arguments, const tracking::TrackerResults& tracker) {
  tracking::ScoreReports reports;
  if (arguments.benchmark == "got10k") {
    const fs::path first = fs::path(arguments.data) / tracking::got10k_names(arguments.data)[0];
    if (!fs::exists(first / "cover.label")) {
      std::cout << fmt::format(
          "scores   this split has no annotations; pack it: comba score got10k --results {} --pack "
          "submission.zip\n",
          tracker.folder.string());
      return;
    }
    reports.benchmark = "GOT-10k";
    reports.got10k.push_back(
        tracking::score_got10k(tracking::read_got10k(arguments.data), tracker, {}));
  } else {
    reports.benchmark = "LaSOT";
    reports.lasot.push_back(tracking::score_lasot(tracking::read_lasot(arguments.data), tracker,
                                                  tracking::LasotProtocol::pytracking, {}));
  }
  std::cout << tracking::score_table(reports);
  if (!arguments.json.empty()) {
    write_file_atomic(arguments.json, tracking::score_json(reports).dump(2) + "\n");
  }
}

}  // namespace

void evaluate_tracker(const TrackerEvaluation& arguments) {
  if (arguments.benchmark.empty() || arguments.data.empty()) {
    throw UsageError(fmt::format(
        "evaluating {}: these are the weights of a tracker; give --benchmark got10k|lasot and "
        "--data DIR, its folder",
        arguments.weights_path));
  }
  tracking::BenchmarkRun run = plan(arguments);
  const auto load = [&](const c10::Device& device) {
    return tracking::load_tracker(arguments.weights_path, arguments.weights, device);
  };
  const tracking::TrackerBundle bundle = load(c10::kCPU);
  const auto assignments = run.per_sequence ? tracking::got10k_assignments(arguments.data)
                                            : tracking::lasot_assignments(arguments.data);
  const tracking::TrackerResults tracker{results_name(bundle),
                                         fs::path(arguments.out) / results_name(bundle)};
  run.folder = tracker.folder;
  const int64_t frames = std::accumulate(assignments.begin(), assignments.end(), int64_t{0},
                                         [](int64_t sum, const tracking::Assignment& a) {
                                           return sum + static_cast<int64_t>(a.frames.count);
                                         });
  log::info("tracking {} sequences of {} with {} ({}), {} at a time", assignments.size(),
            arguments.data, bundle.weights.string(), arguments.device, run.workers.size());
  Progress progress("tracking", frames, "frames");
  // Each with a network of its own: a runner changes its weights' precision.
  const auto times = tracking::run_benchmark(
      assignments, run,
      [&](const c10::Device& device) {
        return std::make_unique<tracking::Tracker>(load(device), device);
      },
      [&](int64_t done) { progress.update(done); });
  progress.finish();
  print_times(times, run);
  print_scores(arguments, tracker);
  std::cout << fmt::format("results  {}\n", tracker.folder.string()) << std::flush;
}

}  // namespace comba::tools
