#include "tools/track_session.h"

#include "datasets/decode.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/log.h"
#include "vision/base/stopwatch.h"

#include <array>
#include <cmath>

#include <nlohmann/json.hpp>
#include <opencv2/imgproc.hpp>

namespace comba::tools {
namespace {

constexpr int kNoDelay = 1;    // ms that a window is given for its events
constexpr int kLeastDrag = 4;  // px; less is a click

// By id; light enough on dark video and dark enough on light.
const std::array<cv::Scalar, 9> kColours = {
    cv::Scalar(60, 220, 60),   cv::Scalar(255, 90, 60),  cv::Scalar(70, 140, 255),
    cv::Scalar(255, 200, 40),  cv::Scalar(200, 90, 255), cv::Scalar(50, 220, 220),
    cv::Scalar(255, 130, 200), cv::Scalar(180, 220, 60), cv::Scalar(255, 160, 100)};
const cv::Scalar kLost(230, 40, 40);

void put_text(cv::Mat& picture, const std::string& text, cv::Point at, double size,
              const cv::Scalar& colour) {
  const int thick = std::max(1, static_cast<int>(std::lround(2 * size)));
  cv::putText(picture, text, at, cv::FONT_HERSHEY_SIMPLEX, size, {0, 0, 0}, thick + 2, cv::LINE_AA);
  cv::putText(picture, text, at, cv::FONT_HERSHEY_SIMPLEX, size, colour, thick, cv::LINE_AA);
}

nlohmann::ordered_json to_json(const tracking::TrackedObject& object) {
  const auto rounded = [](double x) { return std::round(x * 1000) / 1000; };
  return {{"id", object.id},
          {"box",
           {rounded(object.box.x), rounded(object.box.y), rounded(object.box.w),
            rounded(object.box.h)}},
          {"score", rounded(object.score)},
          {"lost", object.lost}};
}

}  // namespace

datasets::Image draw_objects(const datasets::Image& frame,
                             const std::vector<tracking::TrackedObject>& objects,
                             const std::vector<std::string>& text) {
  datasets::Image drawn = frame;
  cv::Mat picture(drawn.height, drawn.width, CV_8UC3, drawn.pixels.data());
  const double size = std::max(0.4, drawn.height / 1200.0);
  const int line = std::max(2, drawn.height / 360);
  for (const tracking::TrackedObject& object : objects) {
    const cv::Scalar& colour = kColours[static_cast<size_t>(object.id - 1) % kColours.size()];
    const cv::Rect box(static_cast<int>(object.box.x), static_cast<int>(object.box.y),
                       static_cast<int>(object.box.w), static_cast<int>(object.box.h));
    cv::rectangle(picture, box, object.lost ? kLost : colour, object.lost ? 1 : line);
    put_text(picture,
             object.lost ? fmt::format("{} lost", object.id)
                         : fmt::format("{} {:.2f}", object.id, object.score),
             {box.x, std::max(box.y - 2 * line, static_cast<int>(30 * size))}, size,
             object.lost ? kLost : colour);
  }
  int y = static_cast<int>(34 * size);
  for (const std::string& words : text) {
    put_text(picture, words, {8, y}, size, {255, 255, 255});
    y += static_cast<int>(34 * size);
  }
  return drawn;
}

TrackSession::TrackSession(tracking::Tracker& tracker, SessionOptions options)
    : tracker_(tracker), options_(std::move(options)) {
  if (options_.show) {
    window_ = datasets::open_window(options_.title);
  }
  if (!options_.json.empty()) {
    json_.open(options_.json, std::ios::binary);
    COMBA_CHECK(json_.good(), "writing {}: it cannot be created", options_.json);
  }
}

double TrackSession::milliseconds_per_frame() const {
  return tracked_ > 0 ? 1000 * seconds_ / static_cast<double>(tracked_) : 0;
}

void TrackSession::run(const std::function<bool(datasets::Image&)>& next,
                       const std::vector<tracking::Box>& boxes) {
  datasets::Image frame;
  while (next(frame)) {
    ++number_;
    if (number_ == 1) {
      for (const tracking::Box& box : boxes) {
        tracker_.add(frame, box);
      }
      paused_ = window_ != nullptr && boxes.empty() && !options_.live;  // time to draw the first
    } else if (!tracker_.objects().empty()) {
      const Stopwatch watch;
      tracker_.update(frame);
      seconds_ += watch.seconds();
      ++tracked_;
    }
    if (window_ && !interact(frame)) {
      write(frame);
      break;
    }
    write(frame);
  }
  if (json_.is_open()) {
    json_.close();
    COMBA_CHECK(!json_.fail(), "writing {}: it could not be finished", options_.json);
  }
}

void TrackSession::write(const datasets::Image& frame) {
  if (json_.is_open()) {
    nlohmann::ordered_json line = {{"frame", number_}, {"objects", nlohmann::json::array()}};
    for (const tracking::TrackedObject& object : tracker_.objects()) {
      line["objects"].push_back(to_json(object));
    }
    json_ << line.dump() << '\n';
  }
  if (options_.video.empty()) {
    return;
  }
  if (!writer_) {
    width_ = frame.width;
    height_ = frame.height;
    writer_ = datasets::create_video(options_.video, options_.rate > 0 ? options_.rate : 25, width_,
                                     height_);
  }
  COMBA_CHECK(frame.width == width_ && frame.height == height_,
              "writing the video {}: frame {} has {} x {} pixels, those before it {} x {}; a video "
              "has one size: give --json instead of --out",
              options_.video, number_, frame.width, frame.height, width_, height_);
  writer_->write(draw_objects(frame, tracker_.objects(), {}));
}

std::vector<std::string> TrackSession::help() const {
  const double ms = milliseconds_per_frame();
  std::vector<std::string> lines = {
      fmt::format("frame {}{}{}", number_,
                  ms > 0 ? fmt::format("   {:.0f} frames/s", 1000 / ms) : "",
                  paused_ ? "   paused" : ""),
      "drag: new object   r: forget all   s: save picture   q: quit"};
  if (!options_.live) {
    lines.back() += "   space: pause   n: next frame";
  }
  return lines;
}

// Shows the frame until it is time for the next one.
bool TrackSession::interact(const datasets::Image& frame) {
  step_ = false;
  do {
    datasets::Image drawn = draw_objects(frame, tracker_.objects(), help());
    if (drag_) {
      cv::Mat picture(drawn.height, drawn.width, CV_8UC3, drawn.pixels.data());
      cv::rectangle(picture, {drag_->x, drag_->y, drag_->width, drag_->height}, {90, 160, 255}, 2);
    }
    window_->show(drawn);
    // While a box is being drawn the video waits.
    if (!press(window_->key(paused_ || drag_ ? 20 : kNoDelay), drawn)) {
      return false;
    }
    take_drag(frame);
  } while ((paused_ || drag_) && !step_);
  return true;
}

bool TrackSession::press(int key, const datasets::Image& drawn) {
  switch (key) {
    case 'q':
    case 27:  // escape
      return false;
    case 'r':
      tracker_.clear();
      break;
    case 's':
      save_picture(drawn);
      break;
    case ' ':
      paused_ = !paused_ && !options_.live;
      break;
    case 'n':
      step_ = paused_;
      break;
    default:
      break;
  }
  return true;
}

void TrackSession::take_drag(const datasets::Image& frame) {
  drag_ = window_->drag();
  if (!drag_ || !drag_->finished) {
    return;
  }
  const datasets::Drag done = *drag_;
  drag_.reset();
  if (done.width < kLeastDrag || done.height < kLeastDrag) {
    return;
  }
  const int id = tracker_.add(
      frame, {double(done.x), double(done.y), double(done.width), double(done.height)});
  log::info("frame {}: object {} at {},{},{},{}", number_, id, done.x, done.y, done.width,
            done.height);
}

void TrackSession::save_picture(const datasets::Image& drawn) {
  const std::string path = fmt::format("comba-{:06}.png", number_);
  write_file_atomic(path, datasets::encode_png(drawn));
  log::info("saved {}", path);
}

}  // namespace comba::tools
