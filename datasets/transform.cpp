#include "datasets/transform.h"

#include "datasets/resample.h"
#include "vision/base/error.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <opencv2/imgproc.hpp>

namespace comba::datasets {
namespace {

cv::Mat view(Image& image) {
  return cv::Mat(image.height, image.width, image.channels == 1 ? CV_8UC1 : CV_8UC3,
                 image.pixels.data());
}

Image part(const Image& image, const ImageBox& box) {
  Image out{box.height, box.width, image.channels, {}};
  out.pixels.reserve(static_cast<size_t>(box.height) * box.width * image.channels);
  for (int y = 0; y < box.height; ++y) {
    const uint8_t* const row = image.row(box.y + y) + ptrdiff_t{box.x} * image.channels;
    out.pixels.insert(out.pixels.end(), row, row + ptrdiff_t{box.width} * image.channels);
  }
  return out;
}

// Rotation and zoom about the centre, then a shift, in one warp; black comes in from outside.
Image jittered(Image image, const TransformOptions& options, RandomStream& random) {
  const double angle = random.uniform(-options.rotate, options.rotate);
  const double zoom = random.uniform(1.0 - options.zoom, 1.0 + options.zoom);
  const auto shift = static_cast<double>(options.shift);
  const double x = random.uniform(-shift, shift), y = random.uniform(-shift, shift);
  cv::Mat matrix = cv::getRotationMatrix2D(
      cv::Point2f((image.width - 1) / 2.f, (image.height - 1) / 2.f), angle, zoom);
  matrix.at<double>(0, 2) += x;
  matrix.at<double>(1, 2) += y;
  Image out{image.height, image.width, image.channels, {}};
  out.pixels.resize(image.pixels.size());
  cv::Mat target = view(out);
  cv::warpAffine(view(image), target, matrix, target.size(), cv::INTER_LINEAR, cv::BORDER_CONSTANT);
  return out;
}

// The short side to `target` px; the other is rounded as torchvision's Resize (bicubic) does.
Image with_short_side(const Image& image, int target) {
  const int shorter = std::min(image.height, image.width);
  const auto scaled = [&](int side) {
    return side == shorter
               ? target
               : static_cast<int>(static_cast<double>(int64_t{target} * side) / shorter);
  };
  return resample(image, {0, 0, image.height, image.width}, scaled(image.height),
                  scaled(image.width));
}

Image evaluation_crop(const Image& image, const TransformOptions& options) {
  const auto size = static_cast<int>(options.image_size);
  const Image whole =
      with_short_side(image, std::max(size, static_cast<int>(size / options.eval_crop)));
  const auto start = [&](int side) {
    return static_cast<int>(std::nearbyint((side - size) / 2.0));
  };
  return part(whole, {start(whole.height), start(whole.width), size, size});
}

// The short side to the network's, a border of reflected pixels, then any square of it (deit 7e160fe, augment.py, "src").
Image simple_crop(const Image& image, int size, RandomStream random) {
  constexpr int kBorder = 4;  // px
  Image whole = with_short_side(image, size);
  Image padded{whole.height + 2 * kBorder, whole.width + 2 * kBorder, whole.channels, {}};
  padded.pixels.resize(static_cast<size_t>(padded.height) * padded.width * padded.channels);
  cv::Mat target = view(padded);
  cv::copyMakeBorder(view(whole), target, kBorder, kBorder, kBorder, kBorder,
                     cv::BORDER_REFLECT_101);
  const auto y = static_cast<int>(random.below(padded.height - size + 1));
  const auto x = static_cast<int>(random.below(padded.width - size + 1));
  return part(padded, {y, x, size, size});
}

}  // namespace

void declare(ConfigTable& table, TransformOptions& o) {
  table.add("data.image_size", &o.image_size, "side of the square network input, px", {1, 16384});
  table.add("data.channels", &o.channels, "3 for colour, 1 for grey", {1, 3});
  table.add_choice("data.train_crop", &o.train_crop,
                   {"random_resized", "simple", "shift", "center"},
                   "random_resized: Inception style; simple: DeiT III's, a square of the resized "
                   "image; shift: whole image, shifted, rotated, zoomed; center: as in evaluation");
  table.add("data.crop_scale_min", &o.crop_scale_min, "least area share of random_resized",
            {0.0001, 1});
  table.add("data.crop_ratio_min", &o.crop_ratio_min,
            "least aspect of random_resized; the largest is its inverse", {0.01, 1});
  table.add("data.shift", &o.shift, "largest shift of train_crop = shift, px", {0, 4096});
  table.add("data.rotate", &o.rotate, "largest rotation of train_crop = shift, degrees", {0, 180});
  table.add("data.zoom", &o.zoom, "largest change of scale of train_crop = shift", {0, 0.9});
  table.add("data.flip", &o.flip, "probability of a horizontal flip in training", {0, 1});
  table.add("data.augment", &o.augment,
            "\"\", \"rand-m9-mstd0.5-inc1\" (RandAugment in timm's notation) or \"3a\" "
            "(3-Augment), in training");
  table.add(
      "data.jitter", &o.jitter,
      "colour jitter of brightness, contrast and saturation in training; not beside RandAugment",
      {0, 1});
  table.add("data.eval_crop", &o.eval_crop, "centre crop share in evaluation", {0.01, 1});
}

ImageBox random_resized_box(int height, int width, const TransformOptions& options,
                            const SampleKey& key) {
  RandomStream random = key.draws(RandomPurpose::crop);
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

TrainingTransform::TrainingTransform(TransformOptions options)
    : options_(std::move(options)),
      policy_(AugmentPolicy::parse(options_.augment, options_.jitter)) {
  if (options_.channels != 3 && (!options_.augment.empty() || options_.jitter > 0)) {
    throw UsageError(fmt::format(
        "configuration: data.augment and data.jitter change colours, but the images have {} "
        "channel (model.in_channels); expected 3, or data.augment = \"\" and data.jitter = 0",
        options_.channels));
  }
}

// What is decoded: the part that a random crop needs, or all.
BoxChoice TrainingTransform::box_of(const SampleKey& key) const {
  if (options_.train_crop == "random_resized") {
    return [this, key](int height, int width) {
      return random_resized_box(height, width, options_, key);
    };
  }
  return [](int height, int width) { return ImageBox{0, 0, height, width}; };
}

PreparedImage TrainingTransform::plan(DecodedPart part, const SampleKey& key) const {
  const auto size = static_cast<int>(options_.image_size);
  RandomStream random = key.draws(RandomPurpose::augment);
  PreparedImage prepared;
  if (options_.train_crop == "random_resized") {
    prepared.part = std::move(part);
  } else {
    Image square = options_.train_crop == "simple"
                       ? simple_crop(part.image, size, key.draws(RandomPurpose::crop))
                       : evaluation_crop(part.image, options_);
    if (options_.train_crop == "shift") {
      square = jittered(std::move(square), options_, random);
    }
    prepared.part = {std::move(square), 0, 0, double(size), double(size)};
  }
  prepared.plan = draw_plan(random);
  return prepared;
}

ImagePlan TrainingTransform::draw_plan(RandomStream& random) const {
  ImagePlan plan;
  plan.height = plan.width = static_cast<int>(options_.image_size);
  plan.flip = random.uniform() < options_.flip;
  plan.steps = draw_augmentation(policy_, random);
  return plan;
}

PlacedImage TrainingTransform::prepare(int height, int width, const SampleKey& key) const {
  COMBA_CHECK(options_.train_crop == "random_resized",
              "planning an image that others decode: data.train_crop = \"{}\": expected "
              "random_resized",
              options_.train_crop);
  const ImageBox box = box_of(key)(height, width);
  RandomStream random = key.draws(RandomPurpose::augment);
  return {0,
          height,
          width,
          double(box.y),
          double(box.x),
          double(box.height),
          double(box.width),
          draw_plan(random)};
}

PreparedImage TrainingTransform::prepare(std::span<const uint8_t> bytes, const std::string& name,
                                         const SampleKey& key) const {
  return plan(decode_part(bytes, static_cast<int>(options_.channels), name, box_of(key),
                          static_cast<int>(options_.image_size)),
              key);
}

Image TrainingTransform::decode(std::span<const uint8_t> bytes, const std::string& name,
                                const SampleKey& key) const {
  return carry_out(prepare(bytes, name, key));
}

PreparedImage TrainingTransform::prepare(const Image& image, const SampleKey& key) const {
  const ImageBox box = box_of(key)(image.height, image.width);
  return plan({image, double(box.y), double(box.x), double(box.height), double(box.width)}, key);
}

Image TrainingTransform::operator()(const Image& image, const SampleKey& key) const {
  return carry_out(prepare(image, key));
}

Image transform_for_evaluation(const Image& image, const TransformOptions& options) {
  return evaluation_crop(image, options);
}

}  // namespace comba::datasets
