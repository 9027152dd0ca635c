#include "tools/eval_tracker.h"

#include "tracking/run_benchmark.h"
#include "tracking/score_report.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/log.h"
#include "vision/base/progress.h"
#include "vision/engine/precision.h"

#include <filesystem>
#include <iostream>
#include <memory>
#include <numeric>

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

void print_times(const tracking::BenchmarkTimes& times) {
  if (times.skipped_sequences > 0) {
    std::cout << fmt::format("left     {} sequences that had their results\n",
                             times.skipped_sequences);
  }
  if (times.frames > 0) {
    const auto per_frame = [&](double seconds) {
      return 1000 * seconds / static_cast<double>(times.frames);
    };
    std::cout << fmt::format(
        "frames   {} in {:.1f} s; a frame takes {:.2f} ms to decode, {:.2f} ms to crop, {:.2f} ms "
        "in the network\n",
        times.frames, times.wall, per_frame(times.decode), per_frame(times.crop),
        per_frame(times.network));
  }
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
  const bool got10k = arguments.benchmark == "got10k";
  const c10::Device device = vision::choose_device(arguments.device);
  const tracking::TrackerBundle bundle =
      tracking::load_tracker(arguments.weights_path, arguments.weights, device);
  const auto assignments = got10k ? tracking::got10k_assignments(arguments.data)
                                  : tracking::lasot_assignments(arguments.data);
  const tracking::TrackerResults tracker{results_name(bundle),
                                         fs::path(arguments.out) / results_name(bundle)};
  const int64_t frames = std::accumulate(assignments.begin(), assignments.end(), int64_t{0},
                                         [](int64_t sum, const tracking::Assignment& a) {
                                           return sum + static_cast<int64_t>(a.frames.count);
                                         });
  log::info("tracking {} sequences of {} with {} ({}), {} at a time", assignments.size(),
            arguments.data, bundle.weights.string(), device.str(), arguments.workers);
  if (arguments.workers > 1 && device.is_cpu()) {
    at::set_num_threads(1);  // the sequences are the parallelism
  }
  Progress progress("tracking", frames, "frames");
  const auto times = tracking::run_benchmark(
      assignments, {tracker.folder, got10k, arguments.workers},
      [&](int) {
        // Each with a network of its own: a runner changes its weights' precision.
        return std::make_unique<tracking::Tracker>(
            tracking::load_tracker(arguments.weights_path, arguments.weights, device), device);
      },
      [&](int64_t done) { progress.update(done); });
  progress.finish();
  print_times(times);
  print_scores(arguments, tracker);
  std::cout << fmt::format("results  {}\n", tracker.folder.string()) << std::flush;
}

}  // namespace comba::tools
