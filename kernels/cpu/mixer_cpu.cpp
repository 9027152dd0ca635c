// The mixer operator on the CPU: own kernels for convolution, norms and merging, LibTorch's for the sigmoids and all
// gradients.
#include "kernels/cpu/scan_cpu.h"
#include "kernels/mixer_operators.h"

#include <vector>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>

namespace comba::kernels {
namespace {

at::Tensor widened(const at::Tensor& x, const MixerProblem& problem) {
  return x.defined() ? x.to(problem.taps.scalar_type()) : x;
}

template <typename Body>
void with_accum(const MixerProblem& problem, const Body& body) {
  problem.taps.scalar_type() == at::kDouble ? body(0.0) : body(0.F);
}

// Before SiLU: y [R, B, T, H, D] contiguous, in the accumulation dtype.
void convolve(const MixerProblem& problem, int64_t part, const at::Tensor& y) {
  with_accum(problem, [&](auto zero) {
    using Accum = decltype(zero);
    const MixerRows<Accum> p = make_mixer_rows<Accum>(problem);
    const MixerShape& s = p.shape;
    auto* const data = y.data_ptr<Accum>();
    at::parallel_for(0, s.directions * s.batch, 1, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        cpu_kernels<Accum>().convolve_sample(p, n / s.batch, n % s.batch, part,
                                             data + n * s.length * s.heads * s.dim);
      }
    });
  });
}

void normalize(const MixerProblem& problem, const at::Tensor& rows) {
  const int64_t dim = rows.size(-1);
  with_accum(problem, [&](auto zero) {
    using Accum = decltype(zero);
    auto* const data = rows.data_ptr<Accum>();
    at::parallel_for(0, rows.numel() / dim, 256, [&](int64_t begin, int64_t end) {
      cpu_kernels<Accum>().normalize_rows(data + begin * dim, end - begin, dim);
    });
  });
}

// `out` itself if it has the accumulation dtype, else something of its shape.
at::Tensor accumulator(const at::Tensor& out, const MixerProblem& problem) {
  const auto dtype = problem.taps.scalar_type();
  return out.scalar_type() == dtype ? out : at::empty(out.sizes(), out.options().dtype(dtype));
}
void copy_back(const at::Tensor& out, const at::Tensor& accumulated) {
  if (!out.is_same(accumulated)) {
    out.copy_(accumulated);
  }
}

bool normalized(const MixerProblem& problem, int64_t part) { return problem.normalize && part < 2; }

MixerProblem widened(const MixerProblem& problem) {
  MixerProblem wide = problem;
  wide.qkv = widened(problem.qkv, problem);
  wide.gate = widened(problem.gate, problem);
  return wide;
}

void rows(const MixerProblem& given, const at::Tensor (&rows)[3]) {
  const MixerProblem problem = widened(given);
  for (int64_t part = 0; part < 3; ++part) {
    at::Tensor u = accumulator(rows[part], problem);
    convolve(problem, part, u);
    if (problem.convolves()) {
      at::silu_(u);
    }
    if (normalized(problem, part)) {
      normalize(problem, u);
    }
    copy_back(rows[part], u);
  }
}

// Token t of `late` meets token t - shift of `early`.
struct Overlap {
  at::Tensor late, early;
};
Overlap overlap(const at::Tensor& late, const at::Tensor& early, int64_t shift) {
  const int64_t length = std::max<int64_t>(0, late.size(1) - shift);
  return {late.narrow(1, late.size(1) - length, length), early.narrow(1, 0, length)};
}

// Adds the transposed convolution of dy to dx; returns the gradient of the taps [H, D, taps].
at::Tensor convolve_backward(const at::Tensor& x, const at::Tensor& dy, const at::Tensor& taps,
                             bool reversed, const at::Tensor& dx) {
  const int64_t count = taps.size(-1);
  constexpr int64_t kSampleAndTime[] = {0, 1};
  std::vector<at::Tensor> dtaps(count);
  for (int64_t j = 0; j < count; ++j) {
    const int64_t shift = count - 1 - j;
    const Overlap shifted = reversed ? overlap(dx, dy, shift) : overlap(dy, dx, shift);
    at::Tensor target = reversed ? shifted.late : shifted.early;
    target.addcmul_(reversed ? shifted.early : shifted.late, taps.select(-1, j));
    const Overlap products = reversed ? overlap(x, dy, shift) : overlap(dy, x, shift);
    dtaps[j] = (products.late * products.early).sum(kSampleAndTime);
  }
  return at::stack(dtaps, -1);
}

at::Tensor rows_backward(const MixerProblem& given, const at::Tensor (&grad_rows)[3],
                         const at::Tensor& grad_qkv) {
  const MixerProblem problem = widened(given);
  const at::Tensor dqkv = at::zeros_like(problem.qkv, at::MemoryFormat::Contiguous);
  at::Tensor convolved[3];
  for (int64_t part = 0; part < 3; ++part) {
    convolved[part] = at::empty(grad_rows[part].sizes(), problem.taps.options());
    convolve(problem, part, convolved[part]);
  }
  std::vector<at::Tensor> dtaps;
  const bool convolves = problem.convolves();
  for (int64_t direction = 0; direction < problem.shape().directions; ++direction) {
    for (int64_t part = 0; part < 3; ++part) {
      const at::Tensor pre = convolved[part][direction], s = pre.sigmoid(),
                       u = convolves ? pre * s : pre;
      at::Tensor du = grad_rows[part][direction].to(u.scalar_type());
      if (normalized(problem, part)) {
        const at::Tensor scale = u.square().sum(-1, true).add_(kRowNormEps).rsqrt_();
        du = scale * (du - u * scale.square() * (u * du).sum(-1, true));
      }
      if (!convolves) {
        dqkv.select(2, part).add_(du);
        continue;
      }
      const at::Tensor dpre = du * s * (1 + pre * (1 - s));
      dtaps.push_back(convolve_backward(problem.qkv.select(2, part), dpre,
                                        problem.taps[direction][part], direction == 1,
                                        dqkv.select(2, part)));
    }
  }
  grad_qkv.copy_(dqkv);
  return convolves ? at::stack(dtaps).view(problem.taps.sizes()) : at::zeros_like(problem.taps);
}

void output(const MixerProblem& given, const at::Tensor& o, const at::Tensor& merged,
            const at::Tensor& y) {
  const MixerProblem problem = widened(given);
  const at::Tensor wide = widened(o, problem).contiguous();
  const at::Tensor gate =
      problem.gate.defined() ? at::sigmoid(problem.gate).contiguous() : at::Tensor();
  const at::Tensor m = accumulator(merged, problem), out = accumulator(y, problem);
  with_accum(problem, [&](auto zero) {
    using Accum = decltype(zero);
    MixerOutput<Accum> p = make_mixer_output<Accum>(problem);
    p.o = wide.const_data_ptr();
    p.merged = m.data_ptr();
    p.y = out.data_ptr();
    const Accum* const gates = gate.defined() ? gate.const_data_ptr<Accum>() : nullptr;
    const MixerShape& s = p.shape;
    at::parallel_for(0, s.batch * s.length * s.heads, 256, [&](int64_t begin, int64_t end) {
      cpu_kernels<Accum>().merge_norm_gate(p, gates, begin, end);
    });
  });
  copy_back(merged, m);
  copy_back(y, out);
}

at::Tensor output_backward(const MixerProblem& given, const at::Tensor& merged,
                           const at::Tensor& grad_y, const at::Tensor& grad_o,
                           const at::Tensor& grad_gate) {
  const MixerProblem problem = widened(given);
  const at::Tensor o = widened(merged, problem), dy = widened(grad_y, problem);
  const at::Tensor scale = o.square().mean(-1, true).add_(problem.norm_eps).rsqrt_();
  const at::Tensor n = o * scale;
  at::Tensor dz = dy;
  if (problem.gate.defined()) {
    at::Tensor g = at::sigmoid(problem.gate);
    g = problem.apart ? g.unsqueeze(2) : g;
    const at::Tensor grad = dy * n * problem.norm_weight * g * (1 - g);
    grad_gate.copy_(problem.apart ? grad.sum(2) : grad);
    dz = dy * g;
  }
  const at::Tensor dn = dz * problem.norm_weight;
  grad_o.copy_(scale * (dn - n * (dn * n).mean(-1, true)));
  return (dz * n).flatten(0, -2).sum(0);
}

constexpr MixerBackend kBackend{&rows, &rows_backward, &output, &output_backward};

}  // namespace

TORCH_LIBRARY_IMPL(comba, CPU, m) { register_mixer_operators<&kBackend>(m); }

}  // namespace comba::kernels
