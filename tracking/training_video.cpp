#include "tracking/training_video.h"

#include "datasets/decode.h"
#include "vision/base/files.h"

namespace comba::tracking {
namespace {

class FolderFrames final : public VideoFrames {
 public:
  explicit FolderFrames(FrameFiles files) : files_(std::move(files)) {}

  datasets::EncodedSample read(size_t frame) const override {
    const std::string bytes = read_file(files_[frame]);
    datasets::EncodedSample sample;
    sample.storage.assign(bytes.begin(), bytes.end());
    sample.bytes = sample.storage;
    sample.name = name(frame);
    return sample;
  }
  std::string name(size_t frame) const override { return files_[frame].string(); }
  std::string file_name(size_t frame) const override { return files_[frame].filename().string(); }

 private:
  FrameFiles files_;
};

}  // namespace

std::shared_ptr<const VideoFrames> frames_of(const FrameFiles& files) {
  return std::make_shared<FolderFrames>(files);
}

datasets::Image TrainingVideo::decode(size_t frame) const {
  const datasets::EncodedSample sample = read(frame);
  return datasets::decode_image(sample.bytes, 3, sample.name);
}

void use_boxes_with_area(TrainingVideo& video) {
  video.usable.resize(video.truth.size(), 1);
  for (size_t i = 0; i < video.truth.size(); ++i) {
    const Box& box = video.truth[i];
    video.usable[i] = video.usable[i] != 0 && box.has_area() && !box.has_nan() ? 1 : 0;
  }
}

}  // namespace comba::tracking
