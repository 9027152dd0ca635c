// The CUDA side of comba::normalise_images: device guard, stream, tables.
#include "kernels/image/normalise_cuda.h"

#include "kernels/image/normalise_problem.h"
#include "kernels/image/upload.h"

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

namespace comba::kernels::image {
namespace {

OutputType type_of(at::ScalarType dtype) {
  return dtype == at::kFloat      ? OutputType::fp32
         : dtype == at::kBFloat16 ? OutputType::bf16
                                  : OutputType::fp16;
}

at::Tensor normalise_images_cuda(const at::Tensor& pixels, const at::Tensor& scale,
                                 const at::Tensor& shift, const std::optional<at::Tensor>& boxes,
                                 const std::optional<at::Tensor>& streams,
                                 const std::optional<at::Tensor>& noise, std::string_view mode,
                                 const std::optional<at::Tensor>& mixes,
                                 std::optional<at::ScalarType> dtype) {
  TORCH_CHECK(pixels.is_cuda(),
              "comba::normalise_images: pixels: expected a CUDA tensor, got one on ",
              pixels.device());
  const c10::cuda::CUDAGuard guard(pixels.device());
  NormalisePlan plan({pixels, scale, shift, boxes, streams, noise, mode, mixes, dtype});
  if (plan.out.numel() == 0) {
    return plan.out;
  }
  Upload upload;
  const int64_t finish = upload.add(plan.finish), box = upload.add(plan.boxes),
                levels = upload.add(plan.noise);
  const at::Tensor sent = upload.send(pixels.device());
  NormaliseProblem& p = plan.problem;
  p.finish = reinterpret_cast<const Finish*>(sent.const_data_ptr<uint8_t>() + finish);
  p.boxes = reinterpret_cast<const Box*>(sent.const_data_ptr<uint8_t>() + box);
  p.noise = reinterpret_cast<const float*>(sent.const_data_ptr<uint8_t>() + levels);
  C10_CUDA_CHECK(launch_normalise(p, type_of(plan.out.scalar_type()), plan.out.data_ptr(),
                                  c10::cuda::getCurrentCUDAStream()));
  return plan.out;
}

}  // namespace

TORCH_LIBRARY_IMPL(comba, CUDA, m) { m.impl("normalise_images", &normalise_images_cuda); }

}  // namespace comba::kernels::image
