// Annotated videos to train a tracker on, from the benchmarks' official folders or the user's own.
//
//   got10k:DIR       GOT-10k's train or val folder (list.txt); a frame is used if not absent and cover > 0
//   lasot:DIR        <class>/<sequence>, and of these the names of training_set.txt if it is there
//   trackingnet:DIR  TRAIN_<n>/{frames/<video>/0.jpg, anno/<video>.txt}
//   coco:DIR         COCO 2017's annotations/ and train2017/: an object is a video of one image, see coco.h
//   pack:FILE        what comba data pack made of any of these
//   video:DIR        one folder of images, or several such folders, each with groundtruth.txt (x,y,w,h a line)
// Each may be followed by "#FILE": the names of the sequences to take, or their places in the list, from 0 (as
// pytracking's data_specs have them), a line each.
#pragma once

#include "tracking/training_video.h"

#include <string>
#include <vector>

namespace comba::tracking {

struct TrainingSet {
  std::string name;                   // as it was asked for
  std::vector<TrainingVideo> videos;  // those that are long enough, in the order of the list
  int left_out = 0;                   // too short, or known to be wrong
};

// Whether a text is such a specification, by the word before its colon.
bool names_videos(const std::string& text);

// The videos that a specification names.
std::vector<ListedVideo> list_videos(const std::string& specification);

// Whether a sequence of GOT-10k's training set has labels that are known to be wrong.
bool known_bad(const std::string& name);

// Reads all annotations; no image. `skip_known_bad`: leaves out the sequences of GOT-10k's training set whose labels are
// known to be wrong. Throws UsageError for an unknown kind, Error naming the file that is missing or broken.
TrainingSet read_training_set(const std::string& specification, bool skip_known_bad, int threads);

// A number that changes with names, boxes and flags.
std::string fingerprint(const std::vector<TrainingSet>& sets);

}  // namespace comba::tracking
