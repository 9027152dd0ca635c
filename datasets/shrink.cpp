#include "datasets/shrink.h"

#include <algorithm>
#include <cmath>

#include <opencv2/imgproc.hpp>

namespace comba::datasets {

Image shrink_short_side(const Image& image, int short_side) {
  const double factor = static_cast<double>(short_side) / std::min(image.width, image.height);
  Image out{static_cast<int>(std::lround(image.height * factor)),
            static_cast<int>(std::lround(image.width * factor)),
            image.channels,
            {}};
  out.pixels.resize(static_cast<size_t>(out.height) * out.width * out.channels);
  const int type = image.channels == 1 ? CV_8UC1 : CV_8UC3;
  const cv::Mat source(image.height, image.width, type, const_cast<uint8_t*>(image.pixels.data()));
  cv::Mat target(out.height, out.width, type, out.pixels.data());
  cv::resize(source, target, target.size(), 0, 0, cv::INTER_AREA);
  return out;
}

}  // namespace comba::datasets
