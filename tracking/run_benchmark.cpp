#include "tracking/run_benchmark.h"

#include "datasets/decode.h"
#include "tracking/box_file.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/parallel.h"

#include <algorithm>
#include <chrono>
#include <mutex>

namespace comba::tracking {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

struct ResultPaths {
  fs::path boxes, times;
};
ResultPaths result_paths(const BenchmarkRun& run, const std::string& name) {
  return run.per_sequence
             ? ResultPaths{run.folder / name / (name + "_001.txt"),
                           run.folder / name / (name + "_time.txt")}
             : ResultPaths{run.folder / (name + ".txt"), run.folder / (name + "_time.txt")};
}

// Both files are there and have a line for every frame.
bool has_results(const ResultPaths& paths, size_t frames) {
  if (!fs::exists(paths.boxes) || !fs::exists(paths.times)) {
    return false;
  }
  try {
    return read_boxes(paths.boxes).size() == frames && read_numbers(paths.times).size() == frames;
  } catch (const Error&) {
    return false;  // it is made again
  }
}

struct SequenceResult {
  std::string boxes, times;
  BenchmarkTimes spent;
};

// The time of a frame is that of tracking it, not of reading it; that of the first is its initialisation.
SequenceResult track_sequence(const Assignment& work, Tracker& tracker,
                              const std::function<void()>& frame_done) {
  SequenceResult result;
  tracker.clear();
  for (size_t n = 0; n < work.frames.count; ++n) {
    const auto start = Clock::now();
    const datasets::Image frame = datasets::read_image(work.frames[n], 3);
    result.spent.decode += seconds_since(start);
    const auto began = Clock::now();
    Box box = work.first;
    if (n == 0) {
      tracker.add(frame, work.first);
    } else {
      box = tracker.update(frame)[0].box;
      result.spent.crop += tracker.times().crop;
      result.spent.network += tracker.times().network;
    }
    result.boxes += fmt::format("{:.3f},{:.3f},{:.3f},{:.3f}\n", box.x, box.y, box.w, box.h);
    result.times += fmt::format("{:.8f}\n", seconds_since(began));
    ++result.spent.frames;
    frame_done();
  }
  return result;
}

void add(BenchmarkTimes& to, const BenchmarkTimes& more) {
  to.frames += more.frames;
  to.decode += more.decode;
  to.crop += more.crop;
  to.network += more.network;
}

Assignment assignment_of(const std::string& name, const FrameFiles& frames, const fs::path& truth) {
  const std::vector<Box> boxes = read_boxes(truth);
  COMBA_CHECK(!boxes.empty() && boxes[0].has_area(),
              "reading {}: expected the box of the first frame (left, top, width, height), got {}",
              truth.string(), boxes.empty() ? "nothing" : "one without area");
  COMBA_CHECK(frames.count > 0, "reading {}: there are no frames ({} and on)", name,
              frames[0].string());
  return {name, frames, boxes[0]};
}

}  // namespace

std::vector<Assignment> got10k_assignments(const fs::path& folder) {
  std::vector<Assignment> all;
  for (const std::string& name : got10k_names(folder)) {
    all.push_back(
        assignment_of(name, list_frames(folder / name), folder / name / "groundtruth.txt"));
  }
  return all;
}

std::vector<Assignment> lasot_assignments(const fs::path& folder) {
  std::vector<Assignment> all;
  for (const std::string& name : lasot_names(folder, "testing_set.txt")) {
    const Sequence sequence = read_lasot_sequence(folder, name);
    all.push_back(assignment_of(name, sequence.frames,
                                folder / sequence.object_class / name / "groundtruth.txt"));
  }
  return all;
}

BenchmarkTimes run_benchmark(
    const std::vector<Assignment>& assignments, const BenchmarkRun& run,
    const std::function<std::unique_ptr<Tracker>(int worker)>& make_tracker,
    const std::function<void(int64_t)>& done) {
  BenchmarkTimes times;
  const auto start = Clock::now();
  std::mutex mutex;
  int64_t finished = 0;
  std::atomic<size_t> next{0};
  const auto count_frame = [&] {
    const std::lock_guard lock(mutex);
    done(++finished);
  };
  parallel_for(static_cast<size_t>(run.workers), run.workers, [&](size_t worker) {
    std::unique_ptr<Tracker> tracker;
    for (size_t n = next++; n < assignments.size(); n = next++) {
      const Assignment& work = assignments[n];
      const ResultPaths paths = result_paths(run, work.name);
      if (has_results(paths, work.frames.count)) {
        const std::lock_guard lock(mutex);
        ++times.skipped_sequences;
        finished += static_cast<int64_t>(work.frames.count);
        continue;
      }
      if (!tracker) {
        tracker = make_tracker(static_cast<int>(worker));
      }
      const SequenceResult result = track_sequence(work, *tracker, count_frame);
      fs::create_directories(paths.boxes.parent_path());
      write_file_atomic(paths.times, result.times);
      write_file_atomic(paths.boxes, result.boxes);
      const std::lock_guard lock(mutex);
      add(times, result.spent);
    }
  });
  times.wall = seconds_since(start);
  return times;
}

}  // namespace comba::tracking
