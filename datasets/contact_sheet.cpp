#include "datasets/contact_sheet.h"

#include <algorithm>

#include <opencv2/imgproc.hpp>

namespace comba::datasets {
namespace {

constexpr int kGap = 6, kCaption = 16;  // px

// The image in RGB, scaled to fit a square of `side`; small ones are enlarged without smoothing.
cv::Mat fitted(const Image& image, int side) {
  cv::Mat source(image.height, image.width, image.channels == 1 ? CV_8UC1 : CV_8UC3,
                 const_cast<uint8_t*>(image.pixels.data()));
  cv::Mat colour = source;
  if (image.channels == 1) {
    cv::cvtColor(source, colour, cv::COLOR_GRAY2RGB);
  }
  const double factor = static_cast<double>(side) / std::max(image.width, image.height);
  const cv::Size size(std::max(1, static_cast<int>(image.width * factor)),
                      std::max(1, static_cast<int>(image.height * factor)));
  cv::Mat out;
  cv::resize(colour, out, size, 0, 0, factor > 1 ? cv::INTER_NEAREST : cv::INTER_AREA);
  return out;
}

}  // namespace

Image contact_sheet(const std::vector<SheetTile>& tiles, int side, int columns) {
  const int count = static_cast<int>(tiles.size());
  columns = std::max(1, std::min(columns, count));
  const int rows = (count + columns - 1) / columns;
  Image sheet{rows * (side + kCaption + kGap) + kGap, columns * (side + kGap) + kGap, 3, {}};
  sheet.pixels.assign(static_cast<size_t>(sheet.height) * sheet.width * 3, 32);
  cv::Mat canvas(sheet.height, sheet.width, CV_8UC3, sheet.pixels.data());
  for (int i = 0; i < count; ++i) {
    const int x = kGap + i % columns * (side + kGap),
              y = kGap + i / columns * (side + kCaption + kGap);
    const cv::Mat tile = fitted(tiles[i].image, side);
    tile.copyTo(canvas(
        cv::Rect(x + (side - tile.cols) / 2, y + (side - tile.rows) / 2, tile.cols, tile.rows)));
    cv::Mat strip = canvas(cv::Rect(x, y + side, side, kCaption));
    cv::putText(strip, tiles[i].caption, cv::Point(1, kCaption - 5), cv::FONT_HERSHEY_SIMPLEX, 0.38,
                cv::Scalar(235, 235, 235), 1, cv::LINE_AA);
  }
  return sheet;
}

}  // namespace comba::datasets
