#include "kernels/mixer_inference.h"

#include "kernels/cpu/inference_cpu.h"
#include "kernels/cpu/isa.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/stack.h>
#include <c10/util/Exception.h>

namespace comba::kernels {
namespace {

constexpr const char* kName = "mixer_inference";

void check_rows(const char* name, const at::Tensor& x) {
  TORCH_CHECK(x.device().is_cpu() && x.scalar_type() == at::kFloat && x.stride(-1) == 1, kName,
              ": ", name, ": expected fp32 rows on the CPU with last stride 1, got ",
              x.scalar_type(), " on ", x.device(), " with strides ", x.strides());
}
void check_shape(const char* name, const at::Tensor& x, at::IntArrayRef expected) {
  TORCH_CHECK(x.sizes() == expected, kName, ": ", name, ": expected shape ", expected, ", got ",
              x.sizes(), " (see kernels/mixer_inference.h)");
}
const float* parameter(const char* name, const at::Tensor& x, at::IntArrayRef expected) {
  check_rows(name, x);
  check_shape(name, x, expected);
  TORCH_CHECK(x.is_contiguous(), kName, ": ", name, ": expected a contiguous tensor");
  return x.const_data_ptr<float>();
}

MixerInferenceParams make_params(const MixerProjections& x, const PreparedMixerWeights& w) {
  check_rows("qkv", x.qkv);
  TORCH_CHECK(x.qkv.dim() == 5 && x.qkv.size(2) == 3, kName,
              ": qkv: expected shape [B, T, 3, H, D], got ", x.qkv.sizes());
  MixerInferenceParams p;
  p.batch = x.qkv.size(0);
  p.length = x.qkv.size(1);
  p.heads = x.qkv.size(3);
  p.dim = x.qkv.size(4);
  TORCH_CHECK(p.dim % inference_kernels().lanes == 0, kName, ": head dimension ", p.dim,
              ": expected a multiple of ", inference_kernels().lanes);
  p.qkv = x.qkv.const_data_ptr<float>();
  p.batch_stride = x.qkv.stride(0);
  p.time_stride = x.qkv.stride(1);
  p.part_stride = x.qkv.stride(2);
  p.head_stride = x.qkv.stride(3);
  check_rows("raw", x.raw);
  check_shape("raw", x.raw, {p.batch, p.length, 2, 2, p.heads});
  TORCH_CHECK(x.raw.stride(3) == p.heads && x.raw.stride(2) == 2 * p.heads, kName,
              ": raw: expected dense gates of a token, got strides ", x.raw.strides());
  p.raw = x.raw.const_data_ptr<float>();
  p.raw_batch_stride = x.raw.stride(0);
  p.raw_time_stride = x.raw.stride(1);
  if (x.gate.defined()) {
    check_rows("gate", x.gate);
    check_shape("gate", x.gate, {p.batch, p.length, p.heads, p.dim});
    p.gate = x.gate.const_data_ptr<float>();
    p.gate_batch_stride = x.gate.stride(0);
    p.gate_time_stride = x.gate.stride(1);
    p.gate_head_stride = x.gate.stride(2);
  }
  TORCH_CHECK(w.taps.dim() == 5, kName, ": taps: expected shape [2, 3, H, taps, D], got ",
              w.taps.sizes());
  p.taps_count = w.taps.size(3);
  TORCH_CHECK(p.taps_count >= 1 && p.taps_count <= kMostInferenceTaps, kName,
              ": taps: expected 1 to ", kMostInferenceTaps, ", got ", p.taps_count);
  p.taps = parameter("taps", w.taps, {2, 3, p.heads, p.taps_count, p.dim});
  p.rate = parameter("rate", w.rate, {2, p.heads});
  p.bias = parameter("bias", w.bias, {2, p.heads});
  p.feedback = parameter("feedback", w.feedback, {2, p.heads});
  p.d = parameter("d", w.d, {2, p.heads});
  p.norm_weight = parameter("norm_weight", w.norm_weight, {p.dim});
  p.scale = w.scale;
  p.factor = w.factor;
  p.norm_eps = w.norm_eps;
  p.decayed_feedback = w.decayed_feedback;
  p.normalize = w.normalize;
  return p;
}

// The rows that a convolution after these still sees, in each direction's order.
at::Tensor last_rows(const at::Tensor& qkv, int64_t count) {
  TORCH_CHECK(qkv.size(1) >= count, kName, ": expected at least ", count,
              " tokens to remember, got ", qkv.size(1));
  return at::stack({qkv.narrow(1, qkv.size(1) - count, count), qkv.narrow(1, 0, count).flip(1)});
}

}  // namespace

const InferenceKernels& inference_kernels() {
  static const InferenceKernels kernels = [] {
    switch (cpu_isa()) {
#if defined(__x86_64__)
      case CpuIsa::avx512:
        return isa_avx512::inference();
      case CpuIsa::avx2:
        return isa_avx2::inference();
#endif
      default:
        return isa_default::inference();
    }
  }();
  return kernels;
}

at::Tensor mixer_inference(const MixerProjections& x, const PreparedMixerWeights& weights,
                           const MixerMemory* before, MixerMemory* after) {
  MixerInferenceParams p = make_params(x, weights);
  const auto options = x.qkv.options();
  if (before != nullptr) {
    p.earlier_rows =
        parameter("earlier rows", before->rows, {2, p.batch, p.taps_count - 1, 3, p.heads, p.dim});
    p.earlier_states =
        parameter("earlier states", before->states, {2, p.batch, p.heads, p.dim, p.dim});
  }
  const at::Tensor states = at::empty({2, p.batch, p.heads, p.dim, p.dim}, options);
  const at::Tensor o = at::empty({2, p.batch, p.length, p.heads, p.dim}, options);
  const at::Tensor y = at::empty({p.batch, p.length, p.heads, p.dim}, options);
  p.states = states.data_ptr<float>();
  p.o = o.data_ptr<float>();
  p.y = y.data_ptr<float>();
  const InferenceKernels& kernels = inference_kernels();
  at::parallel_for(0, 2 * p.batch * p.heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      kernels.task(p, n);
    }
  });
  at::parallel_for(0, p.batch * p.length * p.heads, 64,
                   [&](int64_t begin, int64_t end) { kernels.output(p, begin, end); });
  if (after != nullptr) {
    *after = {states, last_rows(x.qkv, p.taps_count - 1)};
  }
  return y;
}

at::Tensor rms_norm_inference(const at::Tensor& rows, const at::Tensor& weight, double eps) {
  const int64_t dim = rows.size(-1);
  const at::Tensor x = rows.contiguous();
  const float* const from = parameter("rows", x, x.sizes());
  const float* const by = parameter("weight", weight, {dim});
  const at::Tensor y = at::empty(x.sizes(), x.options());
  auto* const to = y.data_ptr<float>();
  at::parallel_for(0, x.numel() / dim, 32, [&](int64_t begin, int64_t end) {
    inference_kernels().rms(from + begin * dim, by, static_cast<float>(eps), end - begin, dim,
                            to + begin * dim);
  });
  return y;
}

void gelu_inference_(at::Tensor& x) {
  parameter("x", x, x.sizes());
  auto* const data = x.data_ptr<float>();
  at::parallel_for(0, x.numel(), 4096, [&](int64_t begin, int64_t end) {
    inference_kernels().gelu(data + begin, end - begin);
  });
}

}  // namespace comba::kernels
