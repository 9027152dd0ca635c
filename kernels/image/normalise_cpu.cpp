// The operator on the CPU, a loop over the function that the CUDA kernel is made of.
#include "kernels/image/finish_pixel.h"
#include "kernels/image/normalise_problem.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

namespace comba::kernels::image {
namespace {

template <typename T>
void finish_image(const NormaliseProblem& p, int image, T* out) {
  for (int c = 0; c < p.channels; ++c) {
    for (int y = 0; y < p.size; ++y) {
      for (int x = 0; x < p.size; ++x) {
        *out++ = static_cast<T>(finished(p, image, c, y, x));
      }
    }
  }
}

at::Tensor normalise_images_cpu(const at::Tensor& pixels, const at::Tensor& scale,
                                const at::Tensor& shift, const std::optional<at::Tensor>& boxes,
                                const std::optional<at::Tensor>& streams,
                                const std::optional<at::Tensor>& noise, std::string_view mode,
                                const std::optional<at::Tensor>& mixes,
                                std::optional<at::ScalarType> dtype) {
  NormalisePlan plan({pixels, scale, shift, boxes, streams, noise, mode, mixes, dtype});
  NormaliseProblem& p = plan.problem;
  p.finish = plan.finish.data();
  p.boxes = plan.boxes.data();
  p.noise = plan.noise.data();
  const int64_t elements = int64_t{p.channels} * p.size * p.size;
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, plan.out.scalar_type(), "normalise_images", [&] {
        auto* const out = plan.out.data_ptr<scalar_t>();
        at::parallel_for(0, p.images, 1, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) {
            finish_image(p, static_cast<int>(i), out + i * elements);
          }
        });
      });
  return plan.out;
}

}  // namespace

TORCH_LIBRARY_IMPL(comba, CPU, m) { m.impl("normalise_images", &normalise_images_cpu); }

}  // namespace comba::kernels::image
