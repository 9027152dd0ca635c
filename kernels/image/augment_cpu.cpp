// The operator on the CPU, a loop over the functions that the CUDA kernels are made of: their check on any machine.
#include "kernels/image/augment_problem.h"
#include "kernels/image/operate_pixel.h"
#include "kernels/image/resample_pixel.h"

#include <algorithm>

#include <ATen/Parallel.h>
#include <torch/library.h>

namespace comba::kernels::image {
namespace {

template <typename Function>
void for_each(int64_t count, const Function& function) {
  at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      function(static_cast<int>(i));
    }
  });
}

template <typename Function>
void for_each_pixel(int height, int width, const Function& function) {
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      function(y, x);
    }
  }
}

void resize(const AugmentBuffers& b, int image) {
  const Source& s = b.sources[image];
  for (int axis = 0; axis < 2; ++axis) {
    for (int i = 0; i < s.axes[axis].outputs; ++i) {
      make_weights(s.axes[axis], i, b.tables + s.tables[axis]);
    }
  }
  for_each_pixel(s.lines, b.width, [&](int line, int x) { resize_line(b, s, line, x); });
  for_each_pixel(b.height, b.width, [&](int y, int x) { resize_column(b, s, image, y, x); });
}

// Fills the table of a task, number `place` of its stage.
void make_lookup(const AugmentBuffers& b, const Task& t, int place) {
  uint32_t* const histogram = b.histograms + int64_t{place} * 3 * kLevels;
  uint8_t* const lookup = b.lookups + int64_t{place} * 3 * kLevels;
  if (needs_histogram(t.operation)) {
    std::fill_n(histogram, 3 * kLevels, 0U);
    const uint8_t* const image = b.image(t.from, t.image);
    for (int64_t i = 0; i < int64_t{b.height} * b.width; ++i) {
      for (int c = 0; c < channels_counted(t.operation); ++c) {
        ++histogram[c * kLevels + level_of(t.operation, image + 3 * i, c)];
      }
    }
  }
  for (int i = 0; i < 3 * kLevels; ++i) {
    lookup[i] = looked_up(t, histogram, i / kLevels, i % kLevels);
  }
}

void carry_out(const AugmentBuffers& b, const Task& t, int place) {
  if (t.operation == Operation::box_blur) {
    for (int pass = 0; pass < kBlurPasses; ++pass) {
      for_each_pixel(b.height, b.width, [&](int y, int x) { blur(b, t, pass, y, x); });
    }
    return;
  }
  if (is_looked_up(t.operation)) {
    make_lookup(b, t, place);
  }
  const uint8_t* const lookup = b.lookups + int64_t{place} * 3 * kLevels;
  for_each_pixel(b.height, b.width, [&](int y, int x) { operate(b, t, lookup, y, x); });
}

at::Tensor augment_images_cpu(const at::Tensor& pixels, const at::Tensor& images,
                              const at::Tensor& steps, at::IntArrayRef size, at::IntArrayRef fill) {
  const AugmentPlan plan = make_augment_plan(pixels, images, steps, size, fill);
  const AugmentMemory memory(plan, pixels.options());
  AugmentBuffers b = memory.buffers(plan, pixels, fill);
  b.sources = plan.sources.data();
  b.tasks = plan.tasks.data();
  for_each(images.size(0), [&](int image) { resize(b, image); });
  for (const Stage& stage : plan.stages) {
    for_each(stage.all + stage.blurs,
             [&](int place) { carry_out(b, b.tasks[stage.first + place], place); });
  }
  return memory.images;
}

}  // namespace

TORCH_LIBRARY_IMPL(comba, CPU, m) { m.impl("augment_images", &augment_images_cpu); }

}  // namespace comba::kernels::image
