#include "vision/nn/prepared.h"

#include "kernels/mixer_inference.h"
#include "vision/base/error.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/_addmm_activation.h>
#include <ATen/ops/_fused_rms_norm.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#ifdef COMBA_CUDA
#include <ATen/cuda/CUDAEvent.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#endif

namespace comba::vision {
namespace {

at::Tensor rows_of(const at::Tensor& x) { return x.flatten(0, -2); }

at::Tensor shaped(const at::Tensor& rows, const at::Tensor& like) {
  std::vector<int64_t> sizes = like.sizes().vec();
  sizes.back() = rows.size(-1);
  return rows.view(sizes);
}

}  // namespace

PreparedLinear::PreparedLinear(const at::Tensor& weight, const at::Tensor& bias,
                               const at::TensorOptions& options)
    : weight_(weight.detach().to(options).contiguous().t()),
      bias_(bias.defined() ? bias.detach().to(options) : bias) {
  if (options.device().is_cuda()) {
    gelu_bias_ = bias_.defined() ? bias_ : at::zeros({weight.size(0)}, options);
  }
}

at::Tensor PreparedLinear::operator()(const at::Tensor& x) const {
  const at::Tensor rows = rows_of(x);
  return shaped(bias_.defined() ? at::addmm(bias_, rows, weight_) : at::mm(rows, weight_), x);
}

at::Tensor PreparedLinear::gelu(const at::Tensor& x) const {
  if (x.is_cuda()) {
    return shaped(at::_addmm_activation(gelu_bias_, rows_of(x), weight_, 1, 1, /*use_gelu=*/true),
                  x);
  }
  at::Tensor y = (*this)(x);
  kernels::gelu_inference_(y);
  return y;
}

void PreparedLinear::add_to(at::Tensor& sum, const at::Tensor& x) const {
  at::Tensor rows = sum.view({-1, sum.size(-1)});
  rows.addmm_(rows_of(x), weight_);
  if (bias_.defined()) {
    rows.add_(bias_);
  }
}

PreparedNorm::PreparedNorm(const Norm& norm, const at::TensorOptions& options)
    : weight_(norm->weight.detach().to(options).contiguous()),
      bias_(norm->bias.defined() ? norm->bias.detach().to(options) : norm->bias),
      eps_(norm->eps()) {}

at::Tensor PreparedNorm::operator()(const at::Tensor& x) const {
  if (bias_.defined()) {
    return at::layer_norm(x, weight_.sizes(), weight_, bias_, eps_);
  }
  return x.is_cuda() ? std::get<0>(at::_fused_rms_norm(x, weight_.sizes(), weight_, eps_))
                     : kernels::rms_norm_inference(x, weight_, eps_);
}

void PreparedMixer::add_part_to(at::Tensor&, const at::Tensor&, const MixerMemory*,
                                MixerMemory*) const {
  COMBA_CHECK(false, "this mixer takes a sequence as a whole");
}

void run_beside(const std::vector<std::function<void()>>& bodies, const c10::Device& device) {
#ifdef COMBA_CUDA
  if (device.is_cuda() && bodies.size() > 1) {
    const auto current = c10::cuda::getCurrentCUDAStream(device.index());
    at::cuda::CUDAEvent begun;
    begun.record(current);
    std::vector<at::cuda::CUDAEvent> ended(bodies.size() - 1);
    for (size_t i = 1; i < bodies.size(); ++i) {
      const auto side = c10::cuda::getStreamFromPool(/*isHighPriority=*/true, device.index());
      const c10::cuda::CUDAStreamGuard guard(side);
      begun.block(side);
      bodies[i]();
      ended[i - 1].record(side);
    }
    bodies[0]();
    for (at::cuda::CUDAEvent& event : ended) {
      event.block(current);
    }
    return;
  }
#endif
  for (const auto& body : bodies) {
    body();
  }
}

}  // namespace comba::vision
