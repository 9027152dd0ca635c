#include "kernels/image/normalise_problem.h"

#include <algorithm>
#include <limits>

#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

namespace comba::kernels::image {
namespace {

constexpr const char* kOp = "comba::normalise_images";
constexpr int64_t kNoiseLevels = 4096;

void check_images(const NormaliseArguments& a) {
  const at::Tensor& pixels = a.pixels;
  TORCH_CHECK(pixels.scalar_type() == at::kByte && pixels.dim() == 4 &&
                  pixels.size(1) == pixels.size(2) && pixels.size(3) > 0,
              kOp, ": pixels: expected uint8 [B, S, S, C], got ", pixels.scalar_type(), " ",
              pixels.sizes());
  TORCH_CHECK(
      pixels.size(1) * pixels.size(2) * pixels.size(3) <= std::numeric_limits<int32_t>::max(), kOp,
      ": pixels: expected less than 2^31 elements an image, got ", pixels.sizes());
  for (const auto& [name, x] : {std::pair("scale", &a.scale), std::pair("shift", &a.shift)}) {
    TORCH_CHECK(x->scalar_type() == at::kFloat && x->dim() == 1 && x->size(0) == pixels.size(3) &&
                    x->is_contiguous() && x->device() == pixels.device(),
                kOp, ": ", name, ": expected contiguous float32 [C] = [", pixels.size(3), "] on ",
                pixels.device(), " as for pixels, got ", x->scalar_type(), " ", x->sizes(), " on ",
                x->device());
  }
  TORCH_CHECK(
      !a.dtype || *a.dtype == at::kFloat || *a.dtype == at::kBFloat16 || *a.dtype == at::kHalf, kOp,
      ": dtype: expected float32, bfloat16 or float16, got ", *a.dtype);
}

// A table on the CPU.
at::Tensor table(const char* name, const std::optional<at::Tensor>& given, at::ScalarType dtype,
                 at::IntArrayRef sizes) {
  TORCH_CHECK(given && given->defined(), kOp, ": ", name, ": expected ", dtype, " ", sizes,
              ", as boxes are to be erased, got none");
  TORCH_CHECK(given->is_cpu() && given->scalar_type() == dtype && given->sizes() == sizes, kOp,
              ": ", name, ": expected ", dtype, " ", sizes, " on the CPU, got ",
              given->scalar_type(), " ", given->sizes(), " on ", given->device());
  return given->contiguous();
}

EraseMode mode_of(std::string_view mode) {
  TORCH_CHECK(mode == "pixel" || mode == "colour" || mode == "const", kOp,
              ": erase_mode: expected pixel, colour or const, got \"", std::string(mode), "\"");
  return mode == "pixel"    ? EraseMode::pixel
         : mode == "colour" ? EraseMode::colour
                            : EraseMode::constant;
}

// From four numbers of a table's row.
template <typename T>
Box read_box(const char* name, int64_t image, const T* row, int64_t size) {
  const bool inside = row[0] >= 0 && row[1] >= 0 && row[2] >= 0 && row[3] >= 0 &&
                      row[0] + row[2] <= size && row[1] + row[3] <= size;
  TORCH_CHECK(inside, kOp, ": ", name, "[", image, "]: expected {y, x, height, width} within ",
              size, " x ", size, " px, got {", row[0], ", ", row[1], ", ", row[2], ", ", row[3],
              "}");
  return {static_cast<int32_t>(row[0]), static_cast<int32_t>(row[1]), static_cast<int32_t>(row[2]),
          static_cast<int32_t>(row[3])};
}

void read_erasing(const NormaliseArguments& a, NormalisePlan& plan) {
  const int64_t count = a.pixels.size(0), size = a.pixels.size(1);
  TORCH_CHECK(a.boxes->dim() == 3, kOp, ": boxes: expected int64 [B, N, 4], got ",
              a.boxes->sizes());
  const int64_t most = a.boxes->size(1);
  const at::Tensor boxes = table("boxes", a.boxes, at::kLong, {count, most, 4});
  const at::Tensor streams = table("streams", a.streams, at::kLong, {count, 6});
  const at::Tensor noise = table("noise", a.noise, at::kFloat, {kNoiseLevels});
  plan.noise.assign(noise.const_data_ptr<float>(), noise.const_data_ptr<float>() + kNoiseLevels);
  const auto* const words = streams.const_data_ptr<int64_t>();
  const auto* const rows = boxes.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < count; ++i) {
    Finish& f = plan.finish[static_cast<size_t>(i)];
    std::transform(words + 6 * i, words + 6 * (i + 1), f.philox,
                   [](int64_t word) { return static_cast<uint32_t>(word); });
    f.first_box = static_cast<int32_t>(plan.boxes.size());
    for (int64_t n = 0; n < most; ++n) {
      const Box box = read_box("boxes", i, rows + (i * most + n) * 4, size);
      if (box.height == 0 || box.width == 0) {
        break;
      }
      plan.boxes.push_back(box);
      ++f.boxes;
    }
  }
}

void read_mixing(const NormaliseArguments& a, NormalisePlan& plan) {
  const int64_t count = a.pixels.size(0);
  const at::Tensor mixes = table("mixes", a.mixes, at::kDouble, {count, 6});
  const auto* const rows = mixes.const_data_ptr<double>();
  for (int64_t i = 0; i < count; ++i) {
    const double* const row = rows + 6 * i;
    TORCH_CHECK(row[0] >= 0 && row[0] < static_cast<double>(count), kOp, ": mixes[", i,
                "]: expected a partner of 0 .. ", count - 1, ", got ", row[0]);
    TORCH_CHECK(row[1] >= 0 && row[1] <= 1, kOp, ": mixes[", i,
                "]: expected a share of 0 .. 1, got ", row[1]);
    Finish& f = plan.finish[static_cast<size_t>(i)];
    f.partner = static_cast<int32_t>(row[0]);
    f.share = static_cast<float>(row[1]);
    f.cut = read_box("mixes", i, row + 2, a.pixels.size(1));
  }
  plan.problem.mixed = true;
}

}  // namespace

NormalisePlan::NormalisePlan(const NormaliseArguments& a) {
  check_images(a);
  pixels = a.pixels.contiguous();
  finish.resize(static_cast<size_t>(pixels.size(0)));
  problem.pixels = pixels.const_data_ptr<uint8_t>();
  problem.scale = a.scale.const_data_ptr<float>();
  problem.shift = a.shift.const_data_ptr<float>();
  problem.images = static_cast<int32_t>(pixels.size(0));
  problem.size = static_cast<int32_t>(pixels.size(1));
  problem.channels = static_cast<int32_t>(pixels.size(3));
  problem.mode = mode_of(a.mode);
  if (a.boxes && a.boxes->defined()) {
    read_erasing(a, *this);
  }
  if (a.mixes && a.mixes->defined()) {
    read_mixing(a, *this);
  }
  out = at::empty({pixels.size(0), pixels.size(3), pixels.size(1), pixels.size(2)},
                  pixels.options().dtype(a.dtype.value_or(at::kFloat)));
}

}  // namespace comba::kernels::image
