#include "kernels/image/augment_problem.h"

#include "kernels/image/resample_pixel.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

namespace comba::kernels::image {
namespace {

constexpr const char* kOp = "comba::augment_images";
constexpr int64_t kImageColumns = 8, kStepColumns = 7;
constexpr int64_t kLargestSide = 16384;  // px, of an output
constexpr double kLargestImage = 1 << 16,
                 kLargestRadius = 4096;  // px; lines x size stay below 2^31

bool is_whole(double x, double low, double high) {
  return x >= low && x <= high && x == std::floor(x);
}

// Row `i` of the table of images, but for where its scratch lies.
Source read_source(const double* row, int64_t i, int64_t bytes, at::IntArrayRef size) {
  const auto [offset, height, width] = std::array{row[0], row[1], row[2]};
  TORCH_CHECK(is_whole(height, 1, kLargestImage) && is_whole(width, 1, kLargestImage), kOp,
              ": images[", i, "]: expected a height and width of 1 .. 2^16 px, got ", height, " x ",
              width);
  TORCH_CHECK(is_whole(offset, 0, static_cast<double>(bytes) - height * width * 3), kOp,
              ": images[", i, "]: expected an offset with ", height, " x ", width,
              " x 3 bytes behind it, got ", offset, " in pixels of ", bytes, " bytes");
  const auto [y, x, box_height, box_width] = std::array{row[3], row[4], row[5], row[6]};
  TORCH_CHECK(y >= 0 && x >= 0 && box_height > 0 && box_width > 0 && y + box_height <= height &&
                  x + box_width <= width,
              kOp, ": images[", i, "]: expected a box {y, x, height, width} within ", height, " x ",
              width, " px, got {", y, ", ", x, ", ", box_height, ", ", box_width, "}");
  TORCH_CHECK(row[7] == 0 || row[7] == 1, kOp, ": images[", i, "]: expected a flip of 0 or 1, got ",
              row[7]);
  Source s;
  s.offset = static_cast<int64_t>(offset);
  s.width = static_cast<int32_t>(width);
  s.top = static_cast<int32_t>(y);
  s.lines = static_cast<int32_t>(std::ceil(y + box_height)) - s.top;
  s.axes[0] = make_axis(x, box_width, static_cast<int>(size[1]));
  s.axes[1] = make_axis(y - s.top, box_height, static_cast<int>(size[0]));
  s.flip = row[7] != 0 ? 1 : 0;
  return s;
}

struct Range {
  double low, high;
  bool whole;
};

// Of an operation's first argument; affine has six that may be anything.
Range range_of(Operation operation) {
  switch (operation) {
    case Operation::posterize:
      return {0, 8, true};
    case Operation::solarize:
      return {0, 256, true};
    case Operation::solarize_add:
      return {0, 255, true};
    case Operation::box_blur:
      return {0, kLargestRadius, false};
    case Operation::contrast:
    case Operation::brightness:
    case Operation::colour:
    case Operation::sharpness:
      return {-1e6, 1e6, false};
    default:
      return {0, 0, false};
  }
}

void check_arguments(Operation operation, const double* row, int64_t i, int64_t k) {
  const double* const arguments = row + 1;
  if (operation == Operation::affine) {
    TORCH_CHECK(
        std::all_of(arguments, row + kStepColumns, [](double x) { return std::isfinite(x); }), kOp,
        ": steps[", i, "][", k, "]: expected six finite numbers for affine");
    return;
  }
  const auto [low, high, whole] = range_of(operation);
  TORCH_CHECK(arguments[0] >= low && arguments[0] <= high &&
                  (!whole || arguments[0] == std::floor(arguments[0])),
              kOp, ": steps[", i, "][", k, "]: expected ", whole ? "a whole number" : "an argument",
              " of ", low, " .. ", high, " for operation ", static_cast<int>(operation), ", got ",
              arguments[0], " (see kernels/image/augment_images.h)");
}

Task read_task(const double* row, int64_t i, int64_t k) {
  TORCH_CHECK(is_whole(row[0], 0, kOperations - 1), kOp, ": steps[", i, "][", k,
              "]: expected an operation of 0 .. ", kOperations - 1, ", got ", row[0],
              " (see kernels/image/augment_images.h)");
  Task t;
  t.image = static_cast<int32_t>(i);
  t.operation = static_cast<Operation>(static_cast<int32_t>(row[0]));
  check_arguments(t.operation, row, i, k);
  t.number = static_cast<int32_t>(t.operation == Operation::affine ? 0 : row[1]);
  t.factor = static_cast<float>(row[1]);
  std::copy_n(row + 1, 6, t.map);
  if (t.operation == Operation::box_blur) {
    t.weight = static_cast<uint32_t>((1 << 24) / (t.factor * 2 + 1));
    t.edge_weight = ((1U << 24) - static_cast<uint32_t>(2 * t.number + 1) * t.weight) / 2;
  }
  return t;
}

// Chooses each image's first buffer so that its last one is the output, number 0.
void lay_out_buffers(AugmentPlan& plan) {
  std::vector<int32_t> buffers(plan.sources.size(), 0);
  for (auto t = plan.tasks.rbegin(); t != plan.tasks.rend(); ++t) {
    int32_t& buffer = buffers[static_cast<size_t>(t->image)];
    t->to = buffer;
    buffer = changes_buffer(t->operation) ? 1 - buffer : buffer;
    t->from = buffer;
    plan.second_buffer |= changes_buffer(t->operation) || t->operation == Operation::box_blur;
  }
  for (size_t i = 0; i < plan.sources.size(); ++i) {
    plan.sources[i].buffer = buffers[i];
  }
}

void add_stage(AugmentPlan& plan, std::vector<Task>& tasks) {
  std::stable_sort(tasks.begin(), tasks.end(),
                   [](const Task& a, const Task& b) { return a.operation < b.operation; });
  Stage stage;
  stage.first = static_cast<int32_t>(plan.tasks.size());
  for (const Task& t : tasks) {
    stage.histograms += needs_histogram(t.operation);
    stage.lookups += is_looked_up(t.operation);
    stage.all += t.operation != Operation::box_blur;
    stage.blurs += t.operation == Operation::box_blur;
  }
  plan.lookups = std::max<int64_t>(plan.lookups, stage.lookups);
  plan.stages.push_back(stage);
  plan.tasks.insert(plan.tasks.end(), tasks.begin(), tasks.end());
}

void check_tables(const at::Tensor& pixels, const at::Tensor& images, const at::Tensor& steps,
                  at::IntArrayRef size, at::IntArrayRef fill) {
  TORCH_CHECK(pixels.dim() == 1 && pixels.scalar_type() == at::kByte && pixels.is_contiguous(), kOp,
              ": pixels: expected contiguous uint8 [N], got ", pixels.scalar_type(), " ",
              pixels.sizes());
  TORCH_CHECK(images.is_cpu() && images.scalar_type() == at::kDouble && images.dim() == 2 &&
                  images.size(1) == kImageColumns,
              kOp, ": images: expected float64 [B, 8] on the CPU, got ", images.scalar_type(), " ",
              images.sizes(), " on ", images.device());
  TORCH_CHECK(steps.is_cpu() && steps.scalar_type() == at::kDouble && steps.dim() == 3 &&
                  steps.size(0) == images.size(0) && steps.size(2) == kStepColumns,
              kOp, ": steps: expected float64 [B, K, 7] with B = ", images.size(0),
              " on the CPU, got ", steps.scalar_type(), " ", steps.sizes(), " on ", steps.device());
  TORCH_CHECK(size.size() == 2 &&
                  std::all_of(size.begin(), size.end(),
                              [](int64_t side) { return side >= 1 && side <= kLargestSide; }),
              kOp, ": size: expected {height, width} of 1 .. ", kLargestSide, " px, got ", size);
  TORCH_CHECK(fill.size() == 3 && std::all_of(fill.begin(), fill.end(),
                                              [](int64_t v) { return v >= 0 && v <= 255; }),
              kOp, ": fill: expected three levels of 0 .. 255, got ", fill);
}

}  // namespace

AugmentPlan make_augment_plan(const at::Tensor& pixels, const at::Tensor& images,
                              const at::Tensor& steps, at::IntArrayRef size, at::IntArrayRef fill) {
  check_tables(pixels, images, steps, size, fill);
  const at::Tensor image_rows = images.contiguous(), step_rows = steps.contiguous();
  const auto* const image_row = image_rows.const_data_ptr<double>();
  const auto* const step_row = step_rows.const_data_ptr<double>();
  AugmentPlan plan;
  plan.height = static_cast<int32_t>(size[0]);
  plan.width = static_cast<int32_t>(size[1]);
  for (int64_t i = 0; i < images.size(0); ++i) {
    Source s = read_source(image_row + i * kImageColumns, i, pixels.numel(), size);
    s.line = plan.line_bytes;
    plan.line_bytes += int64_t{s.lines} * plan.width * 3;
    for (int axis = 0; axis < 2; ++axis) {
      s.tables[axis] = plan.table_ints;
      plan.table_ints += s.axes[axis].table_size();
    }
    plan.sources.push_back(s);
  }
  for (int64_t k = 0; k < steps.size(1); ++k) {
    std::vector<Task> tasks;
    for (int64_t i = 0; i < images.size(0); ++i) {
      const Task t = read_task(step_row + (i * steps.size(1) + k) * kStepColumns, i, k);
      if (t.operation != Operation::none) {
        tasks.push_back(t);
      }
    }
    add_stage(plan, tasks);
  }
  lay_out_buffers(plan);
  return plan;
}

AugmentMemory::AugmentMemory(const AugmentPlan& plan, const at::TensorOptions& options) {
  const auto count = static_cast<int64_t>(plan.sources.size());
  const auto bytes = options.dtype(at::kByte), ints = options.dtype(at::kInt);
  const auto outputs = [&](int64_t number) {
    return at::empty({number, plan.height, plan.width, 3}, bytes);
  };
  images = outputs(count);
  other = outputs(plan.second_buffer ? count : 0);
  tables = at::empty({plan.table_ints}, ints);
  lines = at::empty({plan.line_bytes}, bytes);
  histograms = at::empty({plan.lookups, 3, 256}, ints);
  lookups = at::empty({plan.lookups, 3, 256}, bytes);
}

AugmentBuffers AugmentMemory::buffers(const AugmentPlan& plan, const at::Tensor& pixels,
                                      at::IntArrayRef fill) const {
  AugmentBuffers b;
  b.pixels = pixels.const_data_ptr<uint8_t>();
  b.tables = tables.data_ptr<int32_t>();
  b.lines = lines.data_ptr<uint8_t>();
  b.images[0] = images.data_ptr<uint8_t>();
  b.images[1] = other.data_ptr<uint8_t>();
  b.histograms = reinterpret_cast<uint32_t*>(histograms.data_ptr<int32_t>());
  b.lookups = lookups.data_ptr<uint8_t>();
  b.height = plan.height;
  b.width = plan.width;
  for (size_t c = 0; c < 3; ++c) {
    b.fill[c] = static_cast<uint8_t>(fill[c]);
  }
  return b;
}

}  // namespace comba::kernels::image
