#include "datasets/transform.h"

#include "vision/base/error.h"
#include "vision/base/random.h"

#include <cmath>

#include <opencv2/imgproc.hpp>

namespace comba::datasets {
namespace {

cv::Mat view(const Image& image) {
  return cv::Mat(image.height, image.width, image.channels == 1 ? CV_8UC1 : CV_8UC3,
                 const_cast<uint8_t*>(image.pixels.data()));
}

Image from_mat(const cv::Mat& mat) {
  Image image{mat.rows, mat.cols, mat.channels(), {}};
  image.pixels.resize(mat.total() * mat.channels());
  cv::Mat packed(mat.rows, mat.cols, mat.type(), image.pixels.data());
  mat.copyTo(packed);
  return image;
}

// Area averaging when shrinking (antialiased), cubic otherwise.
cv::Mat resized(const cv::Mat& source, int height, int width) {
  if (source.rows == height && source.cols == width) {
    return source;
  }
  cv::Mat out;
  const bool shrinks = source.rows >= height && source.cols >= width;
  cv::resize(source, out, cv::Size(width, height), 0, 0,
             shrinks ? cv::INTER_AREA : cv::INTER_CUBIC);
  return out;
}

cv::Mat centre(const cv::Mat& source, int size) {
  const int y = (source.rows - size) / 2, x = (source.cols - size) / 2;
  return source(cv::Rect(x, y, size, size));
}

// Rotation and zoom about the centre, then a shift, in one warp; black comes in from outside.
cv::Mat jittered(const cv::Mat& source, const TransformOptions& options, RandomStream& random) {
  const double angle = random.uniform(-options.rotate, options.rotate);
  const double zoom = random.uniform(1.0 - options.zoom, 1.0 + options.zoom);
  const auto shift = static_cast<double>(options.shift);
  const double x = random.uniform(-shift, shift), y = random.uniform(-shift, shift);
  cv::Mat matrix = cv::getRotationMatrix2D(
      cv::Point2f((source.cols - 1) / 2.f, (source.rows - 1) / 2.f), angle, zoom);
  matrix.at<double>(0, 2) += x;
  matrix.at<double>(1, 2) += y;
  cv::Mat out;
  cv::warpAffine(source, out, matrix, source.size(), cv::INTER_LINEAR, cv::BORDER_CONSTANT);
  return out;
}

cv::Mat evaluation_crop(const cv::Mat& source, const TransformOptions& options) {
  const auto size = static_cast<int>(options.image_size);
  const auto target = std::max(size, static_cast<int>(std::lround(size / options.eval_crop)));
  const double factor = static_cast<double>(target) / std::min(source.rows, source.cols);
  const int height = std::max(size, static_cast<int>(std::lround(source.rows * factor)));
  const int width = std::max(size, static_cast<int>(std::lround(source.cols * factor)));
  return centre(resized(source, height, width), size);
}

}  // namespace

void declare(ConfigTable& table, TransformOptions& o) {
  table.add("data.image_size", &o.image_size, "side of the square network input, px", {1, 16384});
  table.add("data.channels", &o.channels, "3 for colour, 1 for grey", {1, 3});
  table.add_choice("data.train_crop", &o.train_crop, {"random_resized", "shift", "center"},
                   "random_resized: Inception style; shift: whole image, shifted, rotated, zoomed; "
                   "center: as in evaluation");
  table.add("data.crop_scale_min", &o.crop_scale_min, "least area share of random_resized",
            {0.0001, 1});
  table.add("data.crop_ratio_min", &o.crop_ratio_min,
            "least aspect of random_resized; the largest is its inverse", {0.01, 1});
  table.add("data.shift", &o.shift, "largest shift of train_crop = shift, px", {0, 4096});
  table.add("data.rotate", &o.rotate, "largest rotation of train_crop = shift, degrees", {0, 180});
  table.add("data.zoom", &o.zoom, "largest change of scale of train_crop = shift", {0, 0.9});
  table.add("data.flip", &o.flip, "probability of a horizontal flip in training", {0, 1});
  table.add("data.eval_crop", &o.eval_crop, "centre crop share in evaluation", {0.01, 1});
}

CropBox random_resized_box(int height, int width, const TransformOptions& options, uint64_t seed,
                           int64_t epoch, int64_t index) {
  RandomStream random(seed, static_cast<uint64_t>(epoch), static_cast<uint64_t>(index),
                      RandomPurpose::crop);
  const double area = static_cast<double>(height) * width;
  const double log_ratio = std::log(options.crop_ratio_min);
  for (int attempt = 0; attempt < 10; ++attempt) {
    const double target = area * random.uniform(options.crop_scale_min, 1.0);
    const double aspect = std::exp(random.uniform(log_ratio, -log_ratio));
    const int w = static_cast<int>(std::nearbyint(std::sqrt(target * aspect)));
    const int h = static_cast<int>(std::nearbyint(std::sqrt(target / aspect)));
    if (w > 0 && h > 0 && w <= width && h <= height) {
      const auto y = static_cast<int>(random.below(height - h + 1));
      const auto x = static_cast<int>(random.below(width - w + 1));
      return {y, x, h, w};
    }
  }
  const double ratio = static_cast<double>(width) / height;
  const double least = options.crop_ratio_min, most = 1.0 / least;
  const int w = ratio > most ? std::max(1, static_cast<int>(std::nearbyint(height * most))) : width;
  const int h =
      ratio < least ? std::max(1, static_cast<int>(std::nearbyint(width / least))) : height;
  return {(height - h) / 2, (width - w) / 2, h, w};
}

Image transform_for_training(const Image& image, const TransformOptions& options, uint64_t seed,
                             int64_t epoch, int64_t index) {
  const auto size = static_cast<int>(options.image_size);
  RandomStream random(seed, static_cast<uint64_t>(epoch), static_cast<uint64_t>(index),
                      RandomPurpose::augment);
  const cv::Mat source = view(image);
  cv::Mat out;
  if (options.train_crop == "random_resized") {
    const CropBox box = random_resized_box(image.height, image.width, options, seed, epoch, index);
    out = resized(source(cv::Rect(box.x, box.y, box.width, box.height)), size, size);
  } else {
    out = evaluation_crop(source, options);
    if (options.train_crop == "shift") {
      out = jittered(out, options, random);
    }
  }
  if (random.uniform() < options.flip) {
    cv::Mat flipped;
    cv::flip(out, flipped, 1);
    out = flipped;
  }
  return from_mat(out);
}

Image transform_for_evaluation(const Image& image, const TransformOptions& options) {
  return from_mat(evaluation_crop(view(image), options));
}

}  // namespace comba::datasets
