#include "datasets/video.h"

#include "datasets/plugin.h"
#include "vision/base/error.h"

#include <cstdlib>
#include <filesystem>

namespace comba::datasets {
namespace {

const VideoPlugin& plugin() {
  using Entry = const VideoPlugin* (*)();
  static const VideoPlugin* const loaded = reinterpret_cast<Entry>(load_plugin(
      "libcomba_video.so", "comba_video_plugin", "videos, cameras and windows",
      "install libopencv-videoio and libopencv-highgui, or give a folder of images and no --show "
      "or --out"))();
  return *loaded;
}

}  // namespace

std::unique_ptr<VideoReader> open_video(const std::string& source) {
  const bool url = source.find("://") != std::string::npos;
  COMBA_CHECK(url || std::filesystem::exists(source), "opening the video {}: there is no such file",
              source);
  std::string problem;
  std::unique_ptr<VideoReader> reader(plugin().open(source, problem));
  COMBA_CHECK(reader != nullptr, "opening the video {}: {}", source, problem);
  return reader;
}

std::unique_ptr<VideoReader> open_camera(int number) {
  std::string problem;
  std::unique_ptr<VideoReader> reader(plugin().camera(number, problem));
  COMBA_CHECK(reader != nullptr,
              "opening camera {}: {}; is it plugged in, free, and yours to read (/dev/video{})?",
              number, problem, number);
  return reader;
}

std::unique_ptr<VideoWriter> create_video(const std::string& path, double rate, int width,
                                          int height) {
  std::string problem;
  std::unique_ptr<VideoWriter> writer(plugin().create(path, rate, width, height, problem));
  COMBA_CHECK(writer != nullptr, "writing the video {}: {}", path, problem);
  return writer;
}

std::unique_ptr<Window> open_window(const std::string& title) {
  // Some of OpenCV's windows end the process where there is no display.
  COMBA_CHECK(std::getenv("DISPLAY") != nullptr || std::getenv("WAYLAND_DISPLAY") != nullptr,
              "opening a window: there is no display (DISPLAY is not set); leave out --show and "
              "give --out or --json");
  std::string problem;
  std::unique_ptr<Window> window(plugin().window(title, problem));
  COMBA_CHECK(window != nullptr, "opening a window: {}", problem);
  return window;
}

}  // namespace comba::datasets
