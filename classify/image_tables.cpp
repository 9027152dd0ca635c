#include "classify/image_tables.h"

#include "datasets/colour_operations.h"
#include "kernels/image/augment_plan.h"

#include <algorithm>
#include <array>

#include <ATen/ops/tensor.h>

namespace comba::classify {
namespace {

using datasets::Augmentation;
using kernels::image::Operation;

constexpr int64_t kImageColumns = 8, kStepColumns = 7;

Operation operation_of(Augmentation kind) {
  switch (kind) {
    case Augmentation::auto_contrast:
      return Operation::auto_contrast;
    case Augmentation::equalize:
      return Operation::equalize;
    case Augmentation::invert:
      return Operation::invert;
    case Augmentation::posterize:
      return Operation::posterize;
    case Augmentation::solarize:
      return Operation::solarize;
    case Augmentation::solarize_add:
      return Operation::solarize_add;
    case Augmentation::colour:
      return Operation::colour;
    case Augmentation::contrast:
      return Operation::contrast;
    case Augmentation::brightness:
      return Operation::brightness;
    case Augmentation::sharpness:
      return Operation::sharpness;
    case Augmentation::grayscale:
      return Operation::grayscale;
    case Augmentation::gaussian_blur:
      return Operation::box_blur;
    case Augmentation::rotate:
    case Augmentation::shear_x:
    case Augmentation::shear_y:
    case Augmentation::translate_x:
    case Augmentation::translate_y:
      return Operation::affine;
  }
  return Operation::none;
}

std::array<double, 7> row_of(const datasets::AugmentStep& step, const datasets::ImagePlan& plan) {
  const Operation operation = operation_of(step.kind);
  const auto number = static_cast<double>(operation);
  switch (operation) {
    case Operation::affine: {
      const datasets::AffineMap m = datasets::affine_map(step, plan.height, plan.width);
      return {number, m.xx, m.xy, m.x0, m.yx, m.yy, m.y0};
    }
    case Operation::box_blur:
      return {number, datasets::box_radius(static_cast<float>(step.argument))};
    case Operation::posterize:
      return {number, std::min(step.argument, 8.0)};
    case Operation::auto_contrast:
    case Operation::equalize:
    case Operation::invert:
    case Operation::grayscale:
      return {number};
    default:
      return {number, step.argument};
  }
}

template <typename T>
at::Tensor table_of(const std::vector<T>& values, at::IntArrayRef sizes) {
  return at::tensor(values, at::TensorOptions().dtype(c10::CppTypeToScalarType<T>::value))
      .view(sizes);
}

}  // namespace

kernels::image::AugmentInputs augment_inputs(const at::Tensor& pixels,
                                             const std::vector<datasets::PlacedImage>& images) {
  const auto count = static_cast<int64_t>(images.size());
  size_t most = 0;  // steps
  std::vector<double> rows;
  for (const datasets::PlacedImage& i : images) {
    most = std::max(most, i.plan.steps.size());
    rows.insert(rows.end(), {static_cast<double>(i.offset), double(i.height), double(i.width), i.y,
                             i.x, i.box_height, i.box_width, i.plan.flip ? 1.0 : 0.0});
  }
  const auto steps_each = static_cast<int64_t>(most);
  std::vector<double> steps(images.size() * most * kStepColumns, 0.0);
  for (size_t i = 0; i < images.size(); ++i) {
    for (size_t k = 0; k < images[i].plan.steps.size(); ++k) {
      const auto row = row_of(images[i].plan.steps[k], images[i].plan);
      std::copy(row.begin(), row.end(),
                steps.begin() + static_cast<ptrdiff_t>((i * most + k) * kStepColumns));
    }
  }
  const auto& fill = datasets::kFillColour;
  return {pixels,
          table_of(rows, {count, kImageColumns}),
          table_of(steps, {count, steps_each, kStepColumns}),
          images.empty() ? 1 : images[0].plan.height,
          images.empty() ? 1 : images[0].plan.width,
          {fill[0], fill[1], fill[2]}};
}

void add_erasing(kernels::image::NormaliseInputs& inputs, const datasets::EraseOptions& options,
                 const std::vector<datasets::SampleKey>& keys) {
  const auto side = static_cast<int>(inputs.pixels.size(1));
  const auto count = static_cast<int64_t>(keys.size());
  std::vector<std::vector<datasets::ImageBox>> boxes;
  std::vector<int64_t> streams;
  size_t most = 0;
  for (const datasets::SampleKey& key : keys) {
    boxes.push_back(draw_erasing(options, side, key));
    most = std::max(most, boxes.back().size());
    const auto words = key.draws(RandomPurpose::erase_noise).philox();
    streams.insert(streams.end(), words.begin(), words.end());
  }
  if (most == 0) {
    return;
  }
  std::vector<int64_t> rows(keys.size() * most * 4, 0);
  for (size_t i = 0; i < boxes.size(); ++i) {
    for (size_t n = 0; n < boxes[i].size(); ++n) {
      const datasets::ImageBox& b = boxes[i][n];
      const std::array<int64_t, 4> row = {b.y, b.x, b.height, b.width};
      std::copy(row.begin(), row.end(), rows.begin() + static_cast<ptrdiff_t>((i * most + n) * 4));
    }
  }
  const auto& noise = datasets::normal_table();
  inputs.boxes = table_of(rows, {count, static_cast<int64_t>(most), 4});
  inputs.streams = table_of(streams, {count, 6});
  inputs.noise = table_of(std::vector<float>(noise.begin(), noise.end()), {-1});
  inputs.mode = options.mode;
}

void add_mixing(kernels::image::NormaliseInputs& inputs, const std::vector<Mix>& mixes) {
  if (mixes.empty()) {
    return;
  }
  const auto count = static_cast<int64_t>(mixes.size());
  std::vector<double> rows;
  for (int64_t i = 0; i < count; ++i) {
    const Mix& m = mixes[static_cast<size_t>(i)];
    rows.insert(rows.end(), {static_cast<double>(mix_partner(i, count)), m.share, double(m.box.y),
                             double(m.box.x), double(m.box.height), double(m.box.width)});
  }
  inputs.mixes = table_of(rows, {count, 6});
}

}  // namespace comba::classify
