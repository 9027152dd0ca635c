// comba track and comba webcam: a video, folder, stream or camera in; boxes, a video and a window out.
#include "datasets/decode.h"
#include "tools/commands.h"
#include "tools/track_session.h"
#include "tracking/box_file.h"
#include "vision/base/error.h"
#include "vision/engine/precision.h"

#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

namespace comba::tools {
namespace fs = std::filesystem;
namespace {

struct Arguments {
  std::string source;
  std::string weights_path, weights = "auto", device = "auto";
  std::vector<std::string> boxes;
  SessionOptions session;
  int camera = 0;
  int64_t most_frames = 0;
  tracking::TrackerOptions tracker;
};

tracking::Box parse_box(const std::string& text) {
  const auto boxes = tracking::parse_boxes(text, "--box");
  if (boxes.size() != 1 || !boxes[0].has_area()) {
    throw UsageError(
        fmt::format("--box {}: expected left,top,width,height in pixels of the first frame", text));
  }
  return boxes[0];
}

// The weights that come with the program: beside it in a bundle, below share/ where it is installed, or in the source tree
// it was built from.
std::string shipped_weights() {
  constexpr const char* kName = "tracking/weights/comba_t_synthetic.safetensors";
  std::error_code error;
  const fs::path prefix = fs::read_symlink("/proc/self/exe", error).parent_path().parent_path();
  for (const fs::path& beside : {prefix / kName, prefix / "share/comba" / kName}) {
    if (!error && fs::exists(beside)) {
      return beside.string();
    }
  }
  return (fs::path(COMBA_SOURCE_FOLDER) / kName).string();
}

// The frames of a folder as a video.
class FolderReader final : public datasets::VideoReader {
 public:
  explicit FolderReader(const fs::path& folder) : frames_(tracking::list_frames(folder)) {}
  bool read(datasets::Image& frame) override {
    if (next_ >= frames_.count) {
      return false;
    }
    frame = datasets::read_image(frames_[next_++], 3);
    return true;
  }
  int64_t count() const override { return static_cast<int64_t>(frames_.count); }
  double rate() const override { return 0; }

 private:
  tracking::FrameFiles frames_;
  size_t next_ = 0;
};

void follow(const Arguments& arguments, datasets::VideoReader& reader) {
  const c10::Device device = vision::choose_device(arguments.device);
  const std::string weights =
      arguments.weights_path.empty() ? shipped_weights() : arguments.weights_path;
  tracking::Tracker tracker(tracking::load_tracker(weights, arguments.weights, device), device,
                            arguments.tracker);
  std::vector<tracking::Box> boxes;
  for (const std::string& box : arguments.boxes) {
    boxes.push_back(parse_box(box));
  }
  SessionOptions options = arguments.session;
  options.rate = options.rate > 0 ? options.rate : reader.rate();
  options.title = "comba: " + fs::path(arguments.source).filename().string();
  TrackSession session(tracker, options);
  session.run(
      [&](datasets::Image& frame) {
        return (arguments.most_frames == 0 || session.frames() < arguments.most_frames) &&
               reader.read(frame);
      },
      boxes);
  COMBA_CHECK(session.frames() > 0, "tracking {}: it has no frames", arguments.source);
  std::cout << fmt::format("tracked  {} frames, {:.2f} ms a frame without decoding\n",
                           session.frames(), session.milliseconds_per_frame());
  for (const auto& [what, path] : {std::pair{"video", options.video}, {"boxes", options.json}}) {
    if (!path.empty()) {
      std::cout << fmt::format("{:<8} {}\n", what, path);
    }
  }
  std::cout << std::flush;
}

void run_track(const Arguments& arguments) {
  if (arguments.boxes.empty() && !arguments.session.show) {
    throw UsageError(
        "comba track: nothing to follow; give --box left,top,width,height (once an object), or "
        "--show to draw it");
  }
  if (fs::is_directory(arguments.source)) {
    FolderReader reader(arguments.source);
    return follow(arguments, reader);
  }
  const auto reader = datasets::open_video(arguments.source);
  follow(arguments, *reader);
}

void run_webcam(Arguments arguments) {
  arguments.session.show = arguments.boxes.empty() || arguments.session.show;
  arguments.session.live = true;
  arguments.source = fmt::format("camera {}", arguments.camera);
  const auto reader = datasets::open_camera(arguments.camera);
  follow(arguments, *reader);
}

void add_options(CLI::App& command, const std::shared_ptr<Arguments>& arguments) {
  command.add_option("--weights", arguments->weights_path,
                     "a tracker's run folder, checkpoint folder or .safetensors file (default: "
                     "those that come with the program)");
  command.add_option("--box", arguments->boxes,
                     "left,top,width,height in the first frame; several objects: several times");
  command.add_option("--out", arguments->session.video,
                     "write a video with the boxes drawn (.mp4)");
  command.add_option(
      "--json", arguments->session.json,
      "write a line a frame: its number from 1; id, box, score, lost of each object");
  command.add_flag(
      "--show", arguments->session.show,
      "open a window: drag a box, r forget, space pause, n next frame, s save, q quit");
  command.add_option("--frames", arguments->most_frames, "stop after so many (default: all)")
      ->check(CLI::Range(1, 1000000000));
  command
      .add_option("--lost-below", arguments->tracker.lost_below,
                  "score under which an object counts as lost (default: 0.2)")
      ->check(CLI::Range(0.0, 1.0));
  command.add_option("--device", arguments->device,
                     "auto (CUDA if there is one), cpu, cuda or cuda:N");
}

}  // namespace

void add_track_commands(CLI::App& app) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* track = app.add_subcommand("track", "Follow objects through a video");
  track->add_option("VIDEO", arguments->source, "video file, stream (URL) or folder of images")
      ->required();
  add_options(*track, arguments);
  track->footer(
      "Example: comba track street.mp4 --weights runs/comba_t-1 --box 310,120,48,96 --out out.mp4");
  track->callback([arguments] { run_track(*arguments); });

  auto camera = std::make_shared<Arguments>();
  CLI::App* webcam = app.add_subcommand("webcam", "Follow objects live from a camera");
  webcam->add_option("--camera", camera->camera, "number of the camera (default: 0)")
      ->check(CLI::Range(0, 63));
  add_options(*webcam, camera);
  webcam->footer("Example: comba webcam --weights runs/comba_t-1");
  webcam->callback([camera] { run_webcam(*camera); });
}

}  // namespace comba::tools
