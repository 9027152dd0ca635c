// The CUDA side of comba::augment_images: device guard, stream, memory, tables.
#include "kernels/image/augment_cuda.h"

#include "kernels/image/augment_problem.h"
#include "kernels/image/upload.h"

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

namespace comba::kernels::image {
namespace {

at::Tensor augment_images_cuda(const at::Tensor& pixels, const at::Tensor& images,
                               const at::Tensor& steps, at::IntArrayRef size,
                               at::IntArrayRef fill) {
  TORCH_CHECK(pixels.is_cuda(),
              "comba::augment_images: pixels: expected a CUDA tensor, got one on ",
              pixels.device());
  const AugmentPlan plan = make_augment_plan(pixels, images, steps, size, fill);
  const c10::cuda::CUDAGuard guard(pixels.device());
  const AugmentMemory memory(plan, pixels.options());
  if (plan.sources.empty()) {
    return memory.images;
  }
  Upload upload;
  const int64_t sources = upload.add(plan.sources), tasks = upload.add(plan.tasks);
  const at::Tensor sent = upload.send(pixels.device());
  AugmentBuffers b = memory.buffers(plan, pixels, fill);
  b.sources = reinterpret_cast<const Source*>(sent.const_data_ptr<uint8_t>() + sources);
  b.tasks = reinterpret_cast<const Task*>(sent.const_data_ptr<uint8_t>() + tasks);
  C10_CUDA_CHECK(launch_augment(plan, b, c10::cuda::getCurrentCUDAStream()));
  return memory.images;
}

}  // namespace

TORCH_LIBRARY_IMPL(comba, CUDA, m) { m.impl("augment_images", &augment_images_cuda); }

}  // namespace comba::kernels::image
