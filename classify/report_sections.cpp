#include "classify/report_sections.h"

#include "datasets/decode.h"
#include "datasets/transform.h"
#include "vision/engine/report.h"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>

namespace comba::classify {
namespace {

constexpr int kShownSide = 160;        // px; larger images are reduced for the report
constexpr size_t kMatrixClasses = 50;  // more make the figure unreadable
constexpr size_t kWorstClasses = 20;

std::string to_png(datasets::Image image) {
  if (image.width > kShownSide) {
    datasets::TransformOptions options;
    options.image_size = kShownSide;
    options.channels = image.channels;
    options.eval_crop = 1.0;
    image = datasets::transform_for_evaluation(image, options);
  }
  return datasets::encode_png(image);
}

std::string training_grid(const std::vector<datasets::SheetTile>& tiles) {
  std::vector<vision::GridImage> images;
  for (const datasets::SheetTile& tile : tiles) {
    vision::GridImage image;
    image.png_bytes = to_png(tile.image);
    image.caption = tile.caption;
    image.good = true;
    images.push_back(std::move(image));
  }
  return vision::image_grid_html(images);
}

std::string example_grid(const std::vector<Example>& examples,
                         const std::vector<std::string>& names) {
  std::vector<vision::GridImage> images;
  for (const Example& example : examples) {
    const std::string& prediction = names[static_cast<size_t>(example.prediction)];
    const bool good = example.prediction == example.label;
    vision::GridImage image;
    image.png_bytes = to_png(example.image);
    image.caption = fmt::format("{} {:.0f} %", prediction, 100.0 * example.probability);
    if (!good) {
      image.caption += fmt::format(", is {}", names[static_cast<size_t>(example.label)]);
    }
    image.good = good;
    images.push_back(std::move(image));
  }
  return vision::image_grid_html(images);
}

std::string class_table(const Evaluation& evaluation, const std::vector<std::string>& names) {
  std::vector<int64_t> order;
  for (int64_t c = 0; c < static_cast<int64_t>(names.size()); ++c) {
    if (evaluation.count_of(c) > 0) {
      order.push_back(c);
    }
  }
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return evaluation.accuracy_of(a) < evaluation.accuracy_of(b);
  });
  order.resize(std::min(order.size(), kWorstClasses));
  std::vector<std::pair<std::string, std::string>> rows;
  for (const int64_t c : order) {
    rows.emplace_back(
        names[static_cast<size_t>(c)],
        fmt::format("{:.2f} % of {}", evaluation.accuracy_of(c), evaluation.count_of(c)));
  }
  return vision::key_value_table_html(rows);
}

}  // namespace

std::vector<std::pair<std::string, std::string>> report_sections(
    const Evaluation& evaluation, const std::vector<std::string>& class_names,
    const std::vector<datasets::SheetTile>& first_images, const RunConfig& config) {
  std::vector<std::string> names = class_names;
  while (static_cast<int64_t>(names.size()) < std::max(evaluation.classes(), config.classes)) {
    names.push_back(fmt::format("class {}", names.size()));
  }
  std::vector<std::pair<std::string, std::string>> sections;
  if (evaluation.count > 0) {
    if (names.size() <= kMatrixClasses) {
      sections.emplace_back("Confusion matrix (rows: label, columns: prediction)",
                            vision::confusion_matrix_svg(names, evaluation.confusion));
    }
    sections.emplace_back("Accuracy per class, worst first", class_table(evaluation, names));
    sections.emplace_back("Mistakes", evaluation.mistakes.empty()
                                          ? "<p>None.</p>"
                                          : example_grid(evaluation.mistakes, names));
    sections.emplace_back("Right predictions", example_grid(evaluation.correct, names));
  }
  if (!first_images.empty()) {
    sections.emplace_back("First training batch, as the network saw it",
                          training_grid(first_images));
  }
  return sections;
}

}  // namespace comba::classify
