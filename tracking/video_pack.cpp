#include "tracking/video_pack.h"

#include "datasets/decode.h"
#include "vision/base/error.h"
#include "vision/base/parallel.h"

#include <algorithm>
#include <cstring>
#include <span>

namespace comba::tracking {
namespace {

namespace fs = std::filesystem;

struct AttachmentHeader {
  char magic[8];
  uint64_t still;
};
constexpr char kMagic[8] = {'V', 'I', 'D', 'E', 'O', 'S', ' ', '1'};
constexpr size_t kBoxBytes = 4 * sizeof(double);
static_assert(sizeof(Box) == kBoxBytes && sizeof(AttachmentHeader) == 16);

// All frames of a pack. The videos refer to it, so that it stays open as long as one of them lives.
class PackedFrames final : public VideoFrames {
 public:
  explicit PackedFrames(const fs::path& index) : path_(index), pack_(datasets::open_pack(index)) {
    const auto bytes = pack_->attachment();
    AttachmentHeader header{};
    COMBA_CHECK(
        bytes.size() >= sizeof header && std::memcmp(bytes.data(), kMagic, sizeof kMagic) == 0,
        "opening the pack {}: it holds images, not videos; make it by comba data pack "
        "got10k:DIR (or lasot:, trackingnet:, coco:, video:)",
        path_.string());
    std::memcpy(&header, bytes.data(), sizeof header);
    still_ = header.still != 0;
    const auto frames = static_cast<size_t>(pack_->size());
    COMBA_CHECK(bytes.size() == sizeof header + frames * (kBoxBytes + 1),
                "opening the pack {}: expected {} bytes of boxes and flags for {} frames, got {}",
                path_.string(), sizeof header + frames * (kBoxBytes + 1), frames, bytes.size());
    boxes_ = bytes.subspan(sizeof header, frames * kBoxBytes);
    flags_ = bytes.subspan(sizeof header + frames * kBoxBytes);
    find_videos();
  }

  datasets::EncodedSample read(size_t frame) const override {
    return pack_->read(static_cast<int64_t>(frame));
  }
  std::string name(size_t frame) const override { return pack_->name(static_cast<int64_t>(frame)); }
  std::string file_name(size_t frame) const override {
    return fs::path(pack_->original(static_cast<int64_t>(frame))).filename().string();
  }

  const std::vector<std::string>& names() const { return pack_->classes(); }
  TrainingVideo video(size_t number, std::shared_ptr<const VideoFrames> self) const {
    const size_t first = begins_[number], count = begins_[number + 1] - first;
    TrainingVideo video{.name = names()[number],
                        .frames = std::move(self),
                        .truth = std::vector<Box>(count),
                        .usable = {},
                        .first = first,
                        .still = still_};
    std::memcpy(video.truth.data(), boxes_.data() + first * kBoxBytes, count * kBoxBytes);
    const auto flags = flags_.subspan(first, count);
    video.usable.assign(flags.begin(), flags.end());
    return video;
  }

 private:
  void find_videos() {
    for (int64_t frame = 0; frame < pack_->size(); ++frame) {
      const auto label = static_cast<size_t>(pack_->label(frame));
      if (label == begins_.size()) {
        begins_.push_back(static_cast<size_t>(frame));
      }
      COMBA_CHECK(label + 1 == begins_.size(),
                  "opening the pack {}: frame {} is of video {}, expected {} or the next",
                  path_.string(), frame, label, static_cast<int64_t>(begins_.size()) - 1);
    }
    COMBA_CHECK(begins_.size() == names().size(),
                "opening the pack {}: it has frames of {} videos and names of {}", path_.string(),
                begins_.size(), names().size());
    begins_.push_back(static_cast<size_t>(pack_->size()));
  }

  fs::path path_;
  std::unique_ptr<datasets::Pack> pack_;
  std::span<const uint8_t> boxes_, flags_;
  std::vector<size_t> begins_;  // of each video, and the end of the last
  bool still_ = false;
};

// A pack being written, video by video.
class Writer {
 public:
  Writer(const fs::path& index, uint64_t shard_bytes) : pack_(index, {}, shard_bytes) {}

  // Its frames come next.
  void begin(const TrainingVideo& video) {
    COMBA_CHECK(names_.empty() || video.still == still_,
                "packing {}: still images and videos do not go into one pack", video.name);
    still_ = video.still;
    names_.push_back(video.name);
    boxes_.append(reinterpret_cast<const char*>(video.truth.data()), video.size() * kBoxBytes);
    flags_.append(video.usable.begin(), video.usable.end());
    added_ = 0;
  }
  void add(const std::string& bytes, const datasets::ImageSize& size, const std::string& path) {
    pack_.add(bytes, size.width, size.height, label(), path);
    ++added_;
  }
  // The image that was added last once more.
  void add_again() {
    pack_.add_again(label());
    ++added_;
  }
  // Takes back the video that was begun last; its images' bytes stay, unused.
  void forget(const TrainingVideo& video) {
    pack_.forget(added_);
    boxes_.resize(boxes_.size() - video.size() * kBoxBytes);
    flags_.resize(flags_.size() - video.size());
    names_.pop_back();
  }
  size_t videos() const { return names_.size(); }
  size_t frames() const { return flags_.size(); }

  void finish() {
    AttachmentHeader header{};
    std::memcpy(header.magic, kMagic, sizeof kMagic);
    header.still = still_ ? 1 : 0;
    std::string attachment(reinterpret_cast<const char*>(&header), sizeof header);
    attachment += boxes_;
    attachment += flags_;
    pack_.name_classes(names_);
    pack_.finish(attachment);
  }

 private:
  int64_t label() const { return static_cast<int64_t>(names_.size()) - 1; }

  datasets::PackWriter pack_;
  std::vector<std::string> names_;
  std::string boxes_, flags_;
  size_t added_ = 0;  // frames of the last video
  bool still_ = false;
};

// Reads annotations and frames on several threads, a block at a time, and writes them in order.
class Packer {
 public:
  Packer(const fs::path& index, const VideoPackOptions& options,
         const std::function<void(int64_t)>& done)
      : writer_(index, options.shard_bytes),
        done_(done),
        threads_(options.threads > 0
                     ? options.threads
                     : static_cast<int>(std::max(1U, std::thread::hardware_concurrency()))) {}

  size_t block() const { return kBlock * static_cast<size_t>(threads_); }

  void add(std::span<const ListedVideo> listed) {
    std::vector<TrainingVideo> videos(listed.size());
    std::vector<std::string> problems(listed.size());
    parallel_for(listed.size(), threads_, [&](size_t n) {
      try {
        videos[n] = listed[n].read();
        problems[n] = videos[n].size() > 0 ? "" : fmt::format("{}: no frames", listed[n].name);
      } catch (const Error& error) {
        problems[n] = error.what();
      }
    });
    std::vector<Frame> frames;
    for (size_t n = 0; n < videos.size(); ++n) {
      if (!problems[n].empty()) {
        report_.rejected.push_back(problems[n]);
        continue;
      }
      const bool again = videos[n].still && last_.frames && videos[n].same_image(last_);
      for (size_t frame = 0; frame < videos[n].size(); ++frame) {
        frames.push_back({&videos[n], frame, again, {}, {}, {}});
      }
      last_ = videos[n].still ? videos[n] : TrainingVideo();
    }
    for (size_t first = 0; first < frames.size(); first += block()) {
      write(std::span(frames).subspan(first, std::min(block(), frames.size() - first)));
    }
  }

  VideoPackReport finish(const fs::path& index, size_t listed, bool strict) {
    const auto first = [&] { return report_.rejected.empty() ? "" : report_.rejected.front(); };
    COMBA_CHECK(!strict || report_.rejected.empty(),
                "packing {}: {} of {} videos cannot be read whole; the first: {}", index.string(),
                report_.rejected.size(), listed, first());
    COMBA_CHECK(writer_.videos() > 0, "packing {}: none of {} videos can be read; the first: {}",
                index.string(), listed, first());
    report_.videos = writer_.videos();
    report_.frames = writer_.frames();
    writer_.finish();
    return std::move(report_);
  }

 private:
  static constexpr size_t kBlock = 32;  // frames or videos for each thread

  struct Frame {
    const TrainingVideo* video;
    size_t number;
    bool again;  // the image of the still before it
    std::string bytes, problem;
    datasets::ImageSize size;
  };

  static void read(Frame& frame) {
    if (frame.again) {
      return;
    }
    try {
      const datasets::EncodedSample sample = frame.video->read(frame.number);
      const datasets::Image image = datasets::decode_image(sample.bytes, 3, sample.name);
      frame.size = {image.height, image.width};
      frame.bytes.assign(sample.bytes.begin(), sample.bytes.end());
    } catch (const Error& error) {
      frame.problem = error.what();
    }
  }

  void write(std::span<Frame> frames) {
    parallel_for(frames.size(), threads_, [&](size_t n) { read(frames[n]); });
    for (Frame& frame : frames) {
      write(frame);
      frame.bytes = {};
    }
  }

  void write(const Frame& frame) {
    const TrainingVideo& video = *frame.video;
    if (frame.number == 0) {
      done_(++begun_);
      writer_.begin(video);
      bad_ = frame.again && bad_;
    } else if (bad_) {
      return;
    }
    bad_ = bad_ || !frame.problem.empty();
    if (bad_) {
      writer_.forget(video);
      report_.rejected.push_back(fmt::format(
          "{}: {}", video.name, frame.again ? "its image cannot be read" : frame.problem));
    } else if (frame.again) {
      writer_.add_again();
    } else {
      const std::string file = video.frames->file_name(video.first + frame.number);
      writer_.add(frame.bytes, frame.size, video.still ? file : video.name + "/" + file);
    }
  }

  Writer writer_;
  const std::function<void(int64_t)>& done_;
  int threads_;
  int64_t begun_ = 0;  // videos
  VideoPackReport report_;
  TrainingVideo last_;  // the still that was listed last
  bool bad_ = false;    // the video being written is left out
};

}  // namespace

VideoPackReport pack_videos(const std::vector<ListedVideo>& videos, const fs::path& index,
                            const VideoPackOptions& options,
                            const std::function<void(int64_t)>& done) {
  datasets::make_place_for_pack(index);
  Packer packer(index, options, done);
  for (size_t first = 0; first < videos.size(); first += packer.block()) {
    const size_t count = std::min(packer.block(), videos.size() - first);
    packer.add(std::span(videos).subspan(first, count));
  }
  return packer.finish(index, videos.size(), options.strict);
}

std::vector<ListedVideo> packed_videos(const fs::path& index) {
  const auto frames = std::make_shared<const PackedFrames>(index);
  std::vector<ListedVideo> entries;
  for (size_t n = 0; n < frames->names().size(); ++n) {
    entries.push_back({frames->names()[n], [frames, n] { return frames->video(n, frames); }});
  }
  return entries;
}

}  // namespace comba::tracking
