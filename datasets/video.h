// Videos, cameras and windows. They live in libcomba_video.so, which alone links OpenCV's videoio and highgui and is loaded
// when first needed.
#pragma once

#include "datasets/image.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace comba::datasets {

class VideoReader {
 public:
  virtual ~VideoReader() = default;
  virtual bool read(Image& frame) = 0;  // RGB; false at the end
  virtual int64_t count() const = 0;    // frames; 0: not known
  virtual double rate() const = 0;      // frames a second; 0: not known
};

class VideoWriter {
 public:
  virtual ~VideoWriter() = default;
  virtual void write(const Image& frame) = 0;  // all of one size; throws Error
};

// A rectangle dragged with the left button, in px of the shown image.
struct Drag {
  int x = 0, y = 0, width = 0, height = 0;
  bool finished = false;  // the button was let go
};

class Window {
 public:
  virtual ~Window() = default;
  virtual void show(const Image& frame) = 0;
  // The key that was pressed within `milliseconds` (0: for ever), or -1; 'q' if the window was closed.
  virtual int key(int milliseconds) = 0;
  // The rectangle being dragged; a finished one is given once.
  virtual std::optional<Drag> drag() = 0;
};

// Throw Error naming the video, camera or file, and what is wrong.
std::unique_ptr<VideoReader> open_video(const std::string& file_or_url);
std::unique_ptr<VideoReader> open_camera(int number);
std::unique_ptr<VideoWriter> create_video(const std::string& path, double rate, int width,
                                          int height);
std::unique_ptr<Window> open_window(const std::string& title);

// The interface of the library; each returns null and says why.
struct VideoPlugin {
  VideoReader* (*open)(const std::string& file_or_url, std::string& problem);
  VideoReader* (*camera)(int number, std::string& problem);
  VideoWriter* (*create)(const std::string& path, double rate, int width, int height,
                         std::string& problem);
  Window* (*window)(const std::string& title, std::string& problem);
};
extern "C" const VideoPlugin* comba_video_plugin();

}  // namespace comba::datasets
