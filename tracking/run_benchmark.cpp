#include "tracking/run_benchmark.h"

#include "tracking/box_file.h"
#include "tracking/frame_reader.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/parallel.h"
#include "vision/base/stopwatch.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <mutex>
#include <optional>

#include <c10/core/DeviceGuard.h>

namespace comba::tracking {
namespace {

namespace fs = std::filesystem;

struct ResultPaths {
  fs::path boxes, times;
};
ResultPaths result_paths(const BenchmarkRun& run, const std::string& name) {
  return run.per_sequence
             ? ResultPaths{run.folder / name / (name + "_001.txt"),
                           run.folder / name / (name + "_time.txt")}
             : ResultPaths{run.folder / (name + ".txt"), run.folder / (name + "_time.txt")};
}

constexpr double kSameBox = 1e-3;  // px; result files have three digits

bool begins_with(const Box& box, const Box& first) {
  const double differences[] = {box.x - first.x, box.y - first.y, box.w - first.w, box.h - first.h};
  return std::all_of(std::begin(differences), std::end(differences),
                     [](double d) { return std::abs(d) <= kSameBox; });
}

// Both files are there and have a line for every frame, and the first is this sequence's first box: another data set may have
// a sequence of this name.
bool has_results(const ResultPaths& paths, const Assignment& work) {
  if (!fs::exists(paths.boxes) || !fs::exists(paths.times)) {
    return false;
  }
  try {
    const std::vector<Box> boxes = read_boxes(paths.boxes);
    return boxes.size() == work.frames.count && begins_with(boxes[0], work.first) &&
           read_numbers(paths.times).size() == work.frames.count;
  } catch (const Error&) {
    return false;  // it is made again
  }
}

// A graph is captured at a tracker's first frames. Nothing else may run on the device meanwhile, so all are captured before the
// workers start.
void warm_up(Tracker& tracker) {
  const datasets::Image grey{64, 64, 3, std::vector<uint8_t>(64 * 64 * 3, 128)};
  tracker.add(grey, {24, 24, 16, 16});
  tracker.update(grey);
  tracker.clear();
}

// A tracker and the threads that read for it. Used by one thread.
class Worker {
 public:
  Worker(const c10::Device& device, std::unique_ptr<Tracker> tracker, int decoders)
      : device_(device), tracker_(std::move(tracker)), reader_(decoders) {}

  // Leaves the sequence's results. The time of a frame is that of tracking it, not of reading it; that of the first is its
  // initialisation.
  void track(const Assignment& work, const ResultPaths& paths,
             const std::function<void()>& frame_done) {
    const c10::OptionalDeviceGuard guard(device_.is_cuda() ? std::optional(device_) : std::nullopt);
    std::string boxes, times;
    tracker_->clear();
    reader_.start(work.frames);
    datasets::Image frame;
    for (size_t n = 0; next(frame); ++n) {
      const Stopwatch watch;
      Box box = work.first;
      if (n == 0) {
        tracker_->add(frame, work.first);
      } else {
        box = tracker_->update(frame)[0].box;
        spent_.crop += tracker_->times().crop;
        spent_.network += tracker_->times().network;
        spent_.rest -= tracker_->times().crop + tracker_->times().network;
      }
      const double seconds = watch.seconds();
      spent_.rest += seconds;
      ++spent_.frames;
      boxes += fmt::format("{:.3f},{:.3f},{:.3f},{:.3f}\n", box.x, box.y, box.w, box.h);
      times += fmt::format("{:.8f}\n", seconds);
      frame_done();
    }
    fs::create_directories(paths.boxes.parent_path());
    write_file_atomic(paths.times, times);
    write_file_atomic(paths.boxes, boxes);
  }

  void add_times(BenchmarkTimes& to) const {
    to.frames += spent_.frames;
    to.waiting += spent_.waiting;
    to.crop += spent_.crop;
    to.network += spent_.network;
    to.rest += spent_.rest;
    to.decode += reader_.seconds();
  }

 private:
  bool next(datasets::Image& frame) {
    const Stopwatch watch;
    const bool any = reader_.next(frame);
    spent_.waiting += watch.seconds();
    return any;
  }

  c10::Device device_;
  std::unique_ptr<Tracker> tracker_;
  FrameReader reader_;
  BenchmarkTimes spent_;
};

// The sequences without results, the longest first, so that no worker is left with one at the end.
std::vector<const Assignment*> pending(const std::vector<Assignment>& assignments,
                                       const BenchmarkRun& run) {
  std::vector<const Assignment*> left;
  for (const Assignment& work : assignments) {
    if (!has_results(result_paths(run, work.name), work)) {
      left.push_back(&work);
    }
  }
  std::stable_sort(left.begin(), left.end(), [](const Assignment* a, const Assignment* b) {
    return a->frames.count > b->frames.count;
  });
  return left;
}

std::vector<std::unique_ptr<Worker>> make_workers(
    const BenchmarkRun& run, size_t most,
    const std::function<std::unique_ptr<Tracker>(const c10::Device&)>& make_tracker) {
  std::vector<std::unique_ptr<Worker>> workers;
  for (const c10::Device& device : run.workers) {
    if (workers.size() < most) {
      auto tracker = make_tracker(device);
      if (device.is_cuda()) {
        warm_up(*tracker);
      }
      workers.push_back(std::make_unique<Worker>(device, std::move(tracker), run.decoders));
    }
  }
  return workers;
}

Assignment assignment_of(const std::string& name, const FrameFiles& frames,
                         const std::vector<Box>& boxes, const fs::path& truth) {
  COMBA_CHECK(!boxes.empty() && boxes[0].has_area() && !boxes[0].has_nan(),
              "reading {}: expected the box of the first frame (left, top, width, height), got {}",
              truth.string(), boxes.empty() ? "nothing" : "one without area");
  COMBA_CHECK(frames.count > 0, "reading {}: there are no frames ({} and on)", name,
              frames[0].string());
  return {name, frames, boxes[0]};
}

// The frames 00000001.jpg and on: GOT-10k's test split says nowhere how many they are.
Assignment read_got10k_assignment(const fs::path& folder, const std::string& name) {
  const fs::path truth = folder / name / "groundtruth.txt";
  const std::vector<Box> boxes = read_boxes(truth);
  const size_t found = list_frames(folder / name).count;
  const FrameFiles frames{folder / name, {}, found};
  for (size_t n = 0; n < found; ++n) {
    COMBA_CHECK(fs::exists(frames[n]), "reading {}: there are {} images, but {} is missing", name,
                found, frames[n].string());
  }
  COMBA_CHECK(boxes.size() <= 1 || boxes.size() == found,
              "reading {}: expected one box (the test split) or a box for each of {} images, got "
              "{}; are the last images missing?",
              truth.string(), found, boxes.size());
  return assignment_of(name, frames, boxes, truth);
}

}  // namespace

std::vector<Assignment> got10k_assignments(const fs::path& folder) {
  std::vector<Assignment> all;
  for (const std::string& name : got10k_names(folder)) {
    all.push_back(read_got10k_assignment(folder, name));
  }
  return all;
}

std::vector<Assignment> lasot_assignments(const fs::path& folder) {
  std::vector<Assignment> all;
  for (const std::string& name : lasot_names(folder, "testing_set.txt")) {
    const Sequence sequence = read_lasot_sequence(folder, name);
    all.push_back(assignment_of(name, sequence.frames, sequence.truth,
                                folder / sequence.object_class / name / "groundtruth.txt"));
  }
  return all;
}

std::string bottleneck(const BenchmarkTimes& t) {
  const std::pair<double, const char*> stages[] = {
      {t.waiting, "decoding"}, {t.crop, "crops"}, {t.network, "network"}, {t.rest, "the rest"}};
  return std::max_element(std::begin(stages), std::end(stages))->second;
}

BenchmarkTimes run_benchmark(
    const std::vector<Assignment>& assignments, const BenchmarkRun& run,
    const std::function<std::unique_ptr<Tracker>(const c10::Device&)>& make_tracker,
    const std::function<void(int64_t)>& done) {
  const std::vector<const Assignment*> left = pending(assignments, run);
  const auto workers = make_workers(run, left.size(), make_tracker);
  const Stopwatch watch;
  std::mutex mutex;
  int64_t finished = 0;
  for (const Assignment& work : assignments) {
    finished += static_cast<int64_t>(work.frames.count);
  }
  for (const Assignment* work : left) {
    finished -= static_cast<int64_t>(work->frames.count);
  }
  const auto count_frame = [&] {
    const std::lock_guard lock(mutex);
    done(++finished);
  };
  std::atomic<size_t> next{0};
  std::map<const Assignment*, std::string> failed;  // in the order of the list
  parallel_for(workers.size(), static_cast<int>(workers.size()), [&](size_t worker) {
    for (size_t n = next++; n < left.size(); n = next++) {
      try {
        workers[worker]->track(*left[n], result_paths(run, left[n]->name), count_frame);
      } catch (const std::exception& error) {
        const std::lock_guard lock(mutex);
        failed[left[n]] = error.what();
      }
    }
  });
  BenchmarkTimes times;
  times.skipped_sequences = static_cast<int64_t>(assignments.size() - left.size());
  times.wall = watch.seconds();
  for (const auto& worker : workers) {
    worker->add_times(times);
  }
  COMBA_CHECK(
      failed.empty(),
      "tracking: {} of {} sequences failed, the others have their results; the first, {}: {}",
      failed.size(), assignments.size(), failed.begin()->first->name, failed.begin()->second);
  return times;
}

}  // namespace comba::tracking
