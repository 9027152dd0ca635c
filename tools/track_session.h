// What comba track and comba webcam share: frames in, objects followed, drawn, written and shown.
#pragma once

#include "datasets/video.h"
#include "tracking/tracker.h"

#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace comba::tools {

struct SessionOptions {
  std::string title;        // of the window
  std::string video, json;  // files to write, or empty
  bool show = false;
  bool live = false;  // a camera: does not wait on its first frame, no pause
  double rate = 0;    // of the written video, frames a second; 0: 25
};

// A drawing of `frame` with boxes, ids, scores, the state of lost objects and lines of text.
datasets::Image draw_objects(const datasets::Image& frame,
                             const std::vector<tracking::TrackedObject>& objects,
                             const std::vector<std::string>& text);

class TrackSession {
 public:
  TrackSession(tracking::Tracker& tracker, SessionOptions options);
  // Follows `boxes`, given in the first frame, and those that are drawn with the mouse. `next` gives the frames.
  void run(const std::function<bool(datasets::Image&)>& next,
           const std::vector<tracking::Box>& boxes);
  int64_t frames() const { return number_; }
  double milliseconds_per_frame() const;

 private:
  void write(const datasets::Image& frame);
  bool interact(const datasets::Image& frame);  // false: the user wants to leave
  bool press(int key, const datasets::Image& frame);
  void take_drag(const datasets::Image& frame);
  std::vector<std::string> help() const;
  void save_picture(const datasets::Image& drawn);

  tracking::Tracker& tracker_;
  SessionOptions options_;
  std::unique_ptr<datasets::Window> window_;
  std::unique_ptr<datasets::VideoWriter> writer_;
  std::ofstream json_;
  int width_ = 0, height_ = 0;  // of the written video
  int64_t number_ = 0;          // of the frame, from 1
  int64_t tracked_ = 0;         // frames in which there was something to follow
  double seconds_ = 0;          // spent on them
  bool paused_ = false, step_ = false;
  std::optional<datasets::Drag> drag_;
};

}  // namespace comba::tools
