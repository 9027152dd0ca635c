// OpenCV's own trackers over a folder in GOT-10k's layout, for comparison; comba score got10k reads what this writes.
//   opencv_trackers GOT10K_FOLDER RESULTS_FOLDER    results of static (the first box), kcf, mil and csrt, a folder each
#include "tracking/benchmark.h"
#include "tracking/box_file.h"
#include "vision/base/error.h"
#include "vision/base/files.h"

#include <chrono>
#include <filesystem>
#include <functional>
#include <iostream>
#include <map>
#include <string>

#include <opencv2/imgcodecs.hpp>
#include <opencv2/tracking.hpp>
#include <opencv2/video/tracking.hpp>

namespace {

namespace fs = std::filesystem;
using comba::tracking::Box;

// Null: the first box for ever.
using Maker = std::function<cv::Ptr<cv::Tracker>()>;

cv::Mat read(const fs::path& path) {
  cv::Mat frame = cv::imread(path.string());
  COMBA_CHECK(!frame.empty(), "reading {}: not an image", path.string());
  return frame;
}

void follow(const fs::path& sequence, const fs::path& out, const Maker& make) {
  const auto frames = comba::tracking::list_frames(sequence);
  const Box first = comba::tracking::read_boxes(sequence / "groundtruth.txt").at(0);
  cv::Rect box(static_cast<int>(first.x), static_cast<int>(first.y), static_cast<int>(first.w),
               static_cast<int>(first.h));
  const cv::Ptr<cv::Tracker> tracker = make ? make() : nullptr;
  std::string boxes, times;
  for (size_t n = 0; n < frames.count; ++n) {
    const cv::Mat frame = read(frames[n]);
    const auto start = std::chrono::steady_clock::now();
    if (tracker && n == 0) {
      tracker->init(frame, box);
    } else if (tracker) {
      cv::Rect found;
      box = tracker->update(frame, found) ? found : box;  // a lost target stays where it was
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    boxes += n == 0
                 ? fmt::format("{:.3f},{:.3f},{:.3f},{:.3f}\n", first.x, first.y, first.w, first.h)
                 : fmt::format("{},{},{},{}\n", box.x, box.y, box.width, box.height);
    times += fmt::format("{:.8f}\n", seconds.count());
  }
  const std::string name = sequence.filename().string();
  fs::create_directories(out / name);
  comba::write_file_atomic(out / name / (name + "_001.txt"), boxes);
  comba::write_file_atomic(out / name / (name + "_time.txt"), times);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: opencv_trackers GOT10K_FOLDER RESULTS_FOLDER\n";
    return 2;
  }
  const std::map<std::string, Maker> makers = {
      {"static", {}},
      {"kcf", [] { return cv::Ptr<cv::Tracker>(cv::TrackerKCF::create()); }},
      {"mil", [] { return cv::Ptr<cv::Tracker>(cv::TrackerMIL::create()); }},
      {"csrt", [] { return cv::Ptr<cv::Tracker>(cv::TrackerCSRT::create()); }}};
  try {
    for (const auto& [name, make] : makers) {
      for (const std::string& sequence : comba::tracking::got10k_names(argv[1])) {
        follow(fs::path(argv[1]) / sequence, fs::path(argv[2]) / name, make);
      }
      std::cout << name << ": " << (fs::path(argv[2]) / name).string() << '\n' << std::flush;
    }
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << '\n';
    return 1;
  }
}
