#include "datasets/video.h"

#include <algorithm>
#include <filesystem>
#include <stdexcept>

#include <opencv2/highgui.hpp>
#include <opencv2/imgproc.hpp>
#include <opencv2/videoio.hpp>

namespace comba::datasets {
namespace {

cv::Mat as_bgr(const Image& image) {
  const cv::Mat pixels(image.height, image.width, CV_8UC3,
                       const_cast<uint8_t*>(image.pixels.data()));
  cv::Mat bgr;
  cv::cvtColor(pixels, bgr, cv::COLOR_RGB2BGR);
  return bgr;
}

class Reader final : public VideoReader {
 public:
  explicit Reader(const cv::VideoCapture& capture) : capture_(capture) {}

  bool read(Image& image) override {
    cv::Mat frame;
    if (!capture_.read(frame) || frame.empty()) {
      return false;
    }
    image = {frame.rows, frame.cols, 3, {}};
    image.pixels.resize(frame.total() * 3);
    cv::Mat rgb(frame.rows, frame.cols, CV_8UC3, image.pixels.data());
    cv::cvtColor(frame, rgb, frame.channels() == 1 ? cv::COLOR_GRAY2RGB : cv::COLOR_BGR2RGB);
    return true;
  }
  int64_t count() const override {
    return std::max<int64_t>(0, static_cast<int64_t>(capture_.get(cv::CAP_PROP_FRAME_COUNT)));
  }
  double rate() const override {
    const double rate = capture_.get(cv::CAP_PROP_FPS);
    return rate > 0 && rate < 1000 ? rate : 0;
  }

 private:
  mutable cv::VideoCapture capture_;
};

class Writer final : public VideoWriter {
 public:
  explicit Writer(const cv::VideoWriter& writer) : writer_(writer) {}
  void write(const Image& frame) override { writer_.write(as_bgr(frame)); }

 private:
  cv::VideoWriter writer_;
};

class CvWindow final : public Window {
 public:
  explicit CvWindow(std::string title) : title_(std::move(title)) {
    cv::namedWindow(title_, cv::WINDOW_NORMAL | cv::WINDOW_KEEPRATIO | cv::WINDOW_GUI_NORMAL);
    cv::resizeWindow(title_, 960, 720);
    cv::setMouseCallback(title_, &CvWindow::on_mouse, this);
  }
  ~CvWindow() override {
    try {
      cv::destroyWindow(title_);
    } catch (const cv::Exception&) {
      // it was closed by its button
    }
  }
  void show(const Image& frame) override { cv::imshow(title_, as_bgr(frame)); }
  int key(int milliseconds) override {
    const int key = cv::waitKey(milliseconds);
    if (key >= 0) {
      return key & 0xff;
    }
    return cv::getWindowProperty(title_, cv::WND_PROP_VISIBLE) < 1 ? 'q' : -1;
  }
  std::optional<Drag> drag() override {
    const std::optional<Drag> now = drag_;
    if (now && now->finished) {
      drag_.reset();
    }
    return now;
  }

 private:
  static void on_mouse(int event, int x, int y, int, void* self) {
    auto& window = *static_cast<CvWindow*>(self);
    if (event == cv::EVENT_LBUTTONDOWN) {
      window.from_ = {x, y};
      window.down_ = true;
    }
    if (!window.down_) {
      return;
    }
    const bool up = event == cv::EVENT_LBUTTONUP;
    window.drag_ = Drag{std::min(x, window.from_.x), std::min(y, window.from_.y),
                        std::abs(x - window.from_.x), std::abs(y - window.from_.y), up};
    window.down_ = !up;
  }

  std::string title_;
  cv::Point from_;
  bool down_ = false;
  std::optional<Drag> drag_;
};

// The result of `make`, or null and what it threw.
template <typename T, typename Make>
T* guarded(std::string& problem, const Make& make) {
  try {
    return make();
  } catch (const std::exception& error) {
    problem = error.what();
    return nullptr;
  }
}

VideoReader* open(const std::string& source, std::string& problem) {
  return guarded<VideoReader>(problem, [&] {
    cv::VideoCapture capture(source);
    if (!capture.isOpened()) {
      throw std::runtime_error("not a video that OpenCV can read, or damaged");
    }
    return new Reader(capture);
  });
}

VideoReader* camera(int number, std::string& problem) {
  return guarded<VideoReader>(problem, [&] {
    cv::VideoCapture capture(number);
    if (!capture.isOpened()) {
      throw std::runtime_error("it cannot be opened");
    }
    return new Reader(capture);
  });
}

VideoWriter* create(const std::string& path, double rate, int width, int height,
                    std::string& problem) {
  return guarded<VideoWriter>(problem, [&] {
    const std::string ending = std::filesystem::path(path).extension().string();
    const int code = ending == ".avi" ? cv::VideoWriter::fourcc('M', 'J', 'P', 'G')
                                      : cv::VideoWriter::fourcc('m', 'p', '4', 'v');
    cv::VideoWriter writer(path, code, rate, {width, height});
    if (!writer.isOpened()) {
      throw std::runtime_error(
          "it cannot be created; expected a writable folder and a name that ends in .mp4, .mkv or "
          ".avi");
    }
    return new Writer(writer);
  });
}

Window* window(const std::string& title, std::string& problem) {
  return guarded<Window>(problem, [&] { return new CvWindow(title); });
}

constexpr VideoPlugin kPlugin{&open, &camera, &create, &window};

}  // namespace

extern "C" __attribute__((visibility("default"))) const VideoPlugin* comba_video_plugin() {
  return &kPlugin;
}

}  // namespace comba::datasets
