#include "datasets/contact_sheet.h"

#include <algorithm>
#include <sstream>
#include <string>

#include <opencv2/imgproc.hpp>

namespace comba::datasets {
namespace {

constexpr int kGap = 6, kLine = 16;  // px
constexpr int kFont = cv::FONT_HERSHEY_SIMPLEX;
constexpr double kFontSize = 0.38;

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

// Characters of the line's beginning that fit into `width` px, at least one; of a longer line up to a gap, where there is one.
size_t fitting(const std::string& line, int width) {
  size_t count = line.size();
  while (count > 1 &&
         cv::getTextSize(line.substr(0, count), kFont, kFontSize, 1, nullptr).width > width - 2) {
    --count;
  }
  if (count == line.size()) {
    return count;
  }
  const size_t gap = line.find_last_of(" _-,.", count - 1);
  return gap != std::string::npos ? gap + 1 : count;
}

// The caption's lines, those too long for `width` px on several.
std::vector<std::string> lines_of(const std::string& caption, int width) {
  std::vector<std::string> lines;
  std::istringstream given(caption);
  for (std::string line; std::getline(given, line);) {
    do {
      const size_t count = fitting(line, width);
      lines.push_back(line.substr(0, count));
      line.erase(0, count);
    } while (!line.empty());
  }
  return lines;
}

void write_caption(cv::Mat canvas, const std::vector<std::string>& lines) {
  int y = kLine - 5;
  for (const std::string& line : lines) {
    cv::putText(canvas, line, cv::Point(1, y), kFont, kFontSize, cv::Scalar(235, 235, 235), 1,
                cv::LINE_AA);
    y += kLine;
  }
}

}  // namespace

Image contact_sheet(const std::vector<SheetTile>& tiles, int side, int columns) {
  const int count = static_cast<int>(tiles.size());
  columns = std::max(1, std::min(columns, count));
  const int rows = (count + columns - 1) / columns;
  std::vector<std::vector<std::string>> captions;
  size_t lines = 1;
  for (const SheetTile& tile : tiles) {
    captions.push_back(lines_of(tile.caption, side));
    lines = std::max(lines, captions.back().size());
  }
  const int caption = kLine * static_cast<int>(lines);
  const int step_y = side + caption + kGap, step_x = side + kGap;
  Image sheet{rows * step_y + kGap, columns * step_x + kGap, 3, {}};
  sheet.pixels.assign(static_cast<size_t>(sheet.height) * sheet.width * 3, 32);
  cv::Mat canvas(sheet.height, sheet.width, CV_8UC3, sheet.pixels.data());
  for (int i = 0; i < count; ++i) {
    const int x = kGap + i % columns * step_x, y = kGap + i / columns * step_y;
    const cv::Mat tile = fitted(tiles[i].image, side);
    tile.copyTo(canvas(
        cv::Rect(x + (side - tile.cols) / 2, y + (side - tile.rows) / 2, tile.cols, tile.rows)));
    write_caption(canvas(cv::Rect(x, y + side, side, caption)), captions[i]);
  }
  return sheet;
}

}  // namespace comba::datasets
