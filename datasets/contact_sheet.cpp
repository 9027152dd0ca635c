#include "datasets/contact_sheet.h"

#include <algorithm>
#include <sstream>
#include <string>

#include <opencv2/imgproc.hpp>

namespace comba::datasets {
namespace {

constexpr int kGap = 6, kLine = 16;  // px

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

int lines_of(const SheetTile& tile) {
  return 1 + static_cast<int>(std::count(tile.caption.begin(), tile.caption.end(), '\n'));
}

void write_caption(cv::Mat canvas, const std::string& caption) {
  std::istringstream lines(caption);
  int y = kLine - 5;
  for (std::string line; std::getline(lines, line); y += kLine) {
    cv::putText(canvas, line, cv::Point(1, y), cv::FONT_HERSHEY_SIMPLEX, 0.38,
                cv::Scalar(235, 235, 235), 1, cv::LINE_AA);
  }
}

}  // namespace

Image contact_sheet(const std::vector<SheetTile>& tiles, int side, int columns) {
  const int count = static_cast<int>(tiles.size());
  columns = std::max(1, std::min(columns, count));
  const int rows = (count + columns - 1) / columns;
  int caption = kLine;
  for (const SheetTile& tile : tiles) {
    caption = std::max(caption, kLine * lines_of(tile));
  }
  const int step_y = side + caption + kGap, step_x = side + kGap;
  Image sheet{rows * step_y + kGap, columns * step_x + kGap, 3, {}};
  sheet.pixels.assign(static_cast<size_t>(sheet.height) * sheet.width * 3, 32);
  cv::Mat canvas(sheet.height, sheet.width, CV_8UC3, sheet.pixels.data());
  for (int i = 0; i < count; ++i) {
    const int x = kGap + i % columns * step_x, y = kGap + i / columns * step_y;
    const cv::Mat tile = fitted(tiles[i].image, side);
    tile.copyTo(canvas(
        cv::Rect(x + (side - tile.cols) / 2, y + (side - tile.rows) / 2, tile.cols, tile.rows)));
    write_caption(canvas(cv::Rect(x, y + side, side, caption)), tiles[i].caption);
  }
  return sheet;
}

}  // namespace comba::datasets
