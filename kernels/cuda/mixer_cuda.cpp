// The CUDA backend of the mixer operator: device guard, stream, partial sums, launches.
#include "kernels/cuda/mixer_cuda.h"

#include "kernels/cuda/partial_sums_cuda.h"
#include "kernels/cuda/scan_cuda.h"
#include "kernels/cuda/tensor_cores.h"
#include "kernels/mixer_operators.h"

#include <algorithm>

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <torch/library.h>

namespace comba::kernels {
namespace {

using cuda::MixerLauncher;

// Groups of lanes that fill a large device; a constant, so that sums have one order on every device.
constexpr int64_t kGroups = 8192;

// The status of body(launcher, stream) with the launchers of the inputs' dtype.
template <typename Body>
cudaError_t with_launcher(at::ScalarType dtype, const Body& body) {
  const auto stream = c10::cuda::getCurrentCUDAStream();
  switch (dtype) {
    case at::kFloat:
      return body(MixerLauncher<float>(), stream);
    case at::kHalf:
      return body(MixerLauncher<__half>(), stream);
    case at::kBFloat16:
      return body(MixerLauncher<__nv_bfloat16>(), stream);
    default:
      TORCH_CHECK(false, "comba::mixer: qkv: dtype ", dtype, " is not built for CUDA");
  }
}

template <typename Body>
void launch(const MixerProblem& problem, const Body& body) {
  if (problem.qkv.numel() > 0) {
    const c10::cuda::CUDAGuard guard(problem.qkv.device());
    C10_CUDA_CHECK(with_launcher(problem.qkv.scalar_type(), body));
  }
}

// [partials, ...] sums that a launch writes in full; zero where there is nothing to launch.
at::Tensor partial_sums(const MixerProblem& problem, at::IntArrayRef sizes) {
  const auto options = problem.taps.options();
  return problem.qkv.numel() > 0 ? at::empty(sizes, options) : at::zeros(sizes, options);
}

// The same with the kernels' number of taps: of both directions, zeros where there is none; the token itself if there is no
// convolution.
MixerProblem padded(const MixerProblem& problem) {
  MixerProblem same = problem;
  const int64_t taps = problem.taps.size(-1), missing = 2 - problem.taps.size(0);
  if (!problem.convolves()) {
    same.taps = at::constant_pad_nd(problem.taps, {0, 1}, 1);
  }
  if (taps < cuda::kMixerTaps) {
    same.taps = at::constant_pad_nd(same.taps, {cuda::kMixerTaps - same.taps.size(-1), 0});
  }
  if (missing > 0) {
    same.taps = at::constant_pad_nd(same.taps, {0, 0, 0, 0, 0, 0, 0, 0, 0, missing});
  }
  return same;
}

// The rows of `given` as the kernels see them.
MixerRows<float> make_rows(const MixerProblem& given, const MixerProblem& padded) {
  auto rows = make_mixer_rows<float>(padded);
  rows.shape.directions = given.taps.size(0);
  rows.silu = given.convolves();
  return rows;
}

void rows(const MixerProblem& given, const at::Tensor (&rows)[3]) {
  const MixerProblem problem = padded(given);
  auto params = make_rows(given, problem);
  for (int part = 0; part < 3; ++part) {
    params.rows[part] = rows[part].data_ptr();
  }
  launch(problem, [&](auto launcher, auto stream) { return launcher.rows(params, stream); });
}

at::Tensor rows_backward(const MixerProblem& given, const at::Tensor (&grad_rows)[3],
                         const at::Tensor& grad_qkv) {
  const MixerProblem problem = padded(given);
  const MixerShape s = problem.shape();
  MixerRowGradients<float> params;
  params.forward = make_rows(given, problem);
  for (int part = 0; part < 3; ++part) {
    params.grad_rows[part] = grad_rows[part].const_data_ptr();
  }
  params.grad_qkv = grad_qkv.data_ptr();
  params.partials = cuda::token_line(s, cuda::kRowsBackwardThreads).pieces;
  const at::Tensor partial = partial_sums(problem, {params.partials, 2, 3, s.heads, s.dim, s.taps});
  params.grad_taps = partial.data_ptr<float>();
  launch(problem,
         [&](auto launcher, auto stream) { return launcher.rows_backward(params, stream); });
  const int64_t taps = given.taps.size(-1);
  return sum_partials(partial).narrow(0, 0, given.taps.size(0)).narrow(-1, s.taps - taps, taps);
}

void output(const MixerProblem& problem, const at::Tensor& o, const at::Tensor& merged,
            const at::Tensor& y) {
  auto params = make_mixer_output<float>(problem);
  const at::Tensor rows = o.contiguous();
  params.o = rows.const_data_ptr();
  params.merged = merged.data_ptr();
  params.y = y.data_ptr();
  launch(problem, [&](auto launcher, auto stream) { return launcher.output(params, stream); });
}

at::Tensor output_backward(const MixerProblem& problem, const at::Tensor& merged,
                           const at::Tensor& grad_y, const at::Tensor& grad_o,
                           const at::Tensor& grad_gate) {
  const MixerShape s = problem.shape();
  const at::Tensor o = merged.contiguous();
  MixerOutputGradients<float> params;
  params.forward = make_mixer_output<float>(problem);
  params.forward.merged = o.data_ptr();
  params.grad_y = grad_y.const_data_ptr();
  params.grad_o = grad_o.data_ptr();
  params.grad_gate = grad_gate.defined() ? grad_gate.data_ptr() : nullptr;
  params.partials = std::clamp<int64_t>(s.batch * s.length * s.heads, 1, kGroups);
  const at::Tensor partial = partial_sums(problem, {params.partials, s.dim});
  params.grad_weight = partial.data_ptr<float>();
  launch(problem,
         [&](auto launcher, auto stream) { return launcher.output_backward(params, stream); });
  return sum_partials(partial);
}

// Where a scan of so few heads and so long a sequence is not cut, which the fused kernel does not do.
bool fused(const MixerProblem& given, const ScanProblem& raw, const at::Tensor& merged,
           const at::Tensor& y) {
  auto scan = make_params<float>(raw);
  if (!cuda::takes_tensor_cores(raw) ||
      cuda::tensor_segments(scan.tasks(), scan.length, scan.key_dim) > 1) {
    return false;
  }
  const MixerProblem problem = padded(given);
  auto params = make_mixer_output<float>(problem);
  params.merged = merged.data_ptr();
  params.y = y.data_ptr();
  scan.scale *= params.factor;
  const cuda::RowConvolution convolution{problem.taps.const_data_ptr<float>(), problem.normalize};
  const c10::cuda::CUDAGuard guard(problem.qkv.device());
  const cudaError_t status =
      with_launcher(problem.qkv.scalar_type(), [&](auto launcher, auto stream) {
        return launcher.fused(scan, convolution, params, stream);
      });
  if (status == cudaErrorInvalidConfiguration) {
    return false;
  }
  C10_CUDA_CHECK(status);
  return true;
}

constexpr MixerBackend kBackend{&rows, &rows_backward, &output, &output_backward, &fused};

}  // namespace

TORCH_LIBRARY_IMPL(comba, CUDA, m) { register_mixer_operators<&kBackend>(m); }

}  // namespace comba::kernels
