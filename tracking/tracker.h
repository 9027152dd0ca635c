// Follows objects through the frames of a video.
//
// As OSTrack 33b5e12 tracks: a crop around the last box, the highest cell of the windowed centre map, its box clipped to the
// image. One setting for everything: what differs between benchmarks elsewhere is tuned on their test sets. When the score
// says that the target is not there its box stays as it is, and the crop widens frame by frame until it is found again; a box
// never changes on a frame where its target is lost.
#pragma once

#include "tracking/crop.h"
#include "tracking/network_runner.h"

#include <vector>

namespace comba::tracking {

struct TrackerOptions {
  double lost_below = 0.2;  // of the score
  double widen = 1.1;       // the crop's factor grows by this with every lost frame
  double widest = 2.0;      // and by no more than this in all
  int64_t update_every =
      0;  // frames: the second template is replaced (by the best frame since); 0: never
  double update_above = 0.5;  // only by frames with at least this score
};

struct TrackedObject {
  int id = 0;  // 1, 2, .. in the order of add()
  Box box;     // px of the frame
  double score = 0;
  bool lost = false;
};

// Seconds of the last update().
struct TrackTimes {
  double crop = 0, network = 0;
};

class Tracker {
 public:
  Tracker(const TrackerBundle& bundle, const c10::Device& device,
          const TrackerOptions& options = {});

  // A new object; its box has to have an area and to touch the frame (UsageError).
  int add(const datasets::Image& frame, const Box& box);
  void remove(int id);
  void clear();
  // Where the objects are in the next frame, in the order of their ids; frames may change in size.
  const std::vector<TrackedObject>& update(const datasets::Image& frame);
  const std::vector<TrackedObject>& objects() const { return objects_; }
  const TrackTimes& times() const { return times_; }

 private:
  struct State {
    std::vector<datasets::Image> templates;
    double widening = 1;
    datasets::Image best;  // candidate for the second template
    double best_score = 0;
    int64_t age = 0;  // frames
  };
  void send_templates();
  void take(TrackedObject& object, State& state, const Answer& answer, const CropWindow& window,
            const datasets::Image& frame);
  bool renew_template(TrackedObject& object, State& state, const datasets::Image& frame);

  TrackConfig config_;
  TrackerOptions options_;
  NetworkRunner runner_;
  std::vector<TrackedObject> objects_;
  std::vector<State> states_;  // of each
  int next_id_ = 1;
  bool templates_changed_ = false;
  TrackTimes times_;
};

}  // namespace comba::tracking
