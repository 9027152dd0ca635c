// A self-contained HTML report: inline SVG plots and embedded pictures, readable in light and dark.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace comba::vision {

struct Series {
  std::string name;
  std::vector<double> xs, ys;  // points with a non-finite coordinate are left out
};

struct PlotOptions {
  std::string title = {}, x_label = {}, y_label = {};
  bool log_x = false, log_y = false;  // to base 2, to base 10: values of 0 or less are left out
};

std::string line_plot_svg(const PlotOptions& options, const std::vector<Series>& series);

// Such plots, one below the other, as a file of its own.
std::string standalone_svg(const std::vector<std::string>& plots);

// counts: [classes, classes], row label, column prediction. A heat map with numbers for up to 30 classes, else the most frequent confusions.
std::string confusion_matrix_svg(const std::vector<std::string>& classes,
                                 const std::vector<int64_t>& counts);

struct GridImage {
  std::string png_bytes;
  std::string caption;
  bool good = true;  // framed in red if not
};
std::string image_grid_html(const std::vector<GridImage>& images);

std::string key_value_table_html(const std::vector<std::pair<std::string, std::string>>& rows);

struct Section {
  std::string title;
  std::string html;
};
void write_report(const std::filesystem::path& path, const std::string& title,
                  const std::vector<Section>& sections);

// &, <, > and quotes made safe for text and attributes.
std::string escape_html(const std::string& text);

}  // namespace comba::vision
