#include "datasets/imgcodecs_plugin.h"

#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

namespace comba::datasets {
namespace {

std::string decode(std::span<const uint8_t> bytes, int channels, Image& image) {
  try {
    const cv::Mat encoded(1, static_cast<int>(bytes.size()), CV_8U,
                          const_cast<uint8_t*>(bytes.data()));
    // Without IMREAD_ANYDEPTH 16-bit images come as 8 bits; EXIF orientation is left alone, as PIL does.
    const int flags =
        (channels == 1 ? cv::IMREAD_GRAYSCALE : cv::IMREAD_COLOR) | cv::IMREAD_IGNORE_ORIENTATION;
    cv::Mat decoded = cv::imdecode(encoded, flags);
    if (decoded.empty()) {
      return "not an image, or damaged";
    }
    if (channels == 3) {
      cv::cvtColor(decoded, decoded, cv::COLOR_BGR2RGB);
    }
    image = {decoded.rows, decoded.cols, channels, {}};
    image.pixels.resize(decoded.total() * channels);
    cv::Mat packed(decoded.rows, decoded.cols, decoded.type(), image.pixels.data());
    decoded.copyTo(packed);
    return "";
  } catch (const std::exception& error) {
    return error.what();
  }
}

std::string encode_png(const Image& image, std::string& out) {
  try {
    cv::Mat pixels(image.height, image.width, image.channels == 1 ? CV_8UC1 : CV_8UC3,
                   const_cast<uint8_t*>(image.pixels.data()));
    cv::Mat ordered;  // of its own: cvtColor into `pixels` would change the caller's image
    if (image.channels == 3) {
      cv::cvtColor(pixels, ordered, cv::COLOR_RGB2BGR);
    } else {
      ordered = pixels;
    }
    std::vector<uint8_t> bytes;
    if (!cv::imencode(".png", ordered, bytes)) {
      return "OpenCV could not encode it";
    }
    out.assign(bytes.begin(), bytes.end());
    return "";
  } catch (const std::exception& error) {
    return error.what();
  }
}

constexpr ImgcodecsPlugin kPlugin{&decode, &encode_png};

}  // namespace

extern "C" __attribute__((visibility("default"))) const ImgcodecsPlugin* comba_imgcodecs_plugin() {
  return &kPlugin;
}

}  // namespace comba::datasets
