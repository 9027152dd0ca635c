// The CPU kernels around the scan: own loops where a pass over memory counts, LibTorch's for the rest and the gradients.
#include "kernels/mixer_operators.h"

#include <cmath>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
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
  problem.taps.scalar_type() == at::kDouble ? body(double()) : body(float());
}

// One direction of one sample's q, k or v: y [T, H, D] contiguous.
template <typename Accum>
void convolve(const MixerRows<Accum>& p, int64_t direction, int64_t sample, int64_t part,
              Accum* y) {
  const MixerShape& s = p.shape;
  const auto* const x = static_cast<const Accum*>(p.qkv) + sample * p.batch_stride +
                        part * p.part_stride;
  const int64_t width = s.heads * s.dim;
  std::vector<Accum> taps(s.taps * width);  // [taps, H, D]: unit stride along the row
  for (int64_t i = 0; i < width; ++i) {
    for (int64_t j = 0; j < s.taps; ++j) {
      taps[j * width + i] = p.taps[((direction * 3 + part) * width + i) * s.taps + j];
    }
  }
  for (int64_t t = 0; t < s.length; ++t) {
    Accum* const row = y + t * width;
    std::fill(row, row + width, Accum(0));
    for (int64_t j = 0; j < s.taps; ++j) {
      const int64_t back = s.taps - 1 - j, from = direction == 0 ? t - back : t + back;
      if (from < 0 || from >= s.length) {
        continue;
      }
      for (int64_t h = 0; h < s.heads; ++h) {
        const Accum* const source = x + from * p.time_stride + h * p.head_stride;
        const Accum* const tap = taps.data() + j * width + h * s.dim;
        Accum* const target = row + h * s.dim;
        for (int64_t i = 0; i < s.dim; ++i) {
          target[i] += tap[i] * source[i];
        }
      }
    }
  }
}

// Before SiLU: [2, B, T, H, D] in the accumulation dtype.
at::Tensor convolved(const MixerProblem& problem, int64_t part) {
  const MixerShape s = problem.shape();
  const at::Tensor y = at::empty({2, s.batch, s.length, s.heads, s.dim}, problem.taps.options());
  with_accum(problem, [&](auto zero) {
    using Accum = decltype(zero);
    const MixerRows<Accum> p = make_mixer_rows<Accum>(problem);
    auto* const data = y.data_ptr<Accum>();
    at::parallel_for(0, 2 * s.batch, 1, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        convolve(p, n / s.batch, n % s.batch, part, data + n * s.length * s.heads * s.dim);
      }
    });
  });
  return y;
}

template <typename Accum>
void normalize_rows(Accum* rows, int64_t count, int64_t dim) {
  at::parallel_for(0, count, 256, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      Accum* const row = rows + n * dim;
      Accum sum = Accum(kRowNormEps);
      for (int64_t i = 0; i < dim; ++i) {
        sum += row[i] * row[i];
      }
      const Accum scale = 1 / std::sqrt(sum);
      for (int64_t i = 0; i < dim; ++i) {
        row[i] *= scale;
      }
    }
  });
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
    at::Tensor u = convolved(problem, part);
    at::silu_(u);
    if (normalized(problem, part)) {
      with_accum(problem, [&](auto zero) {
        normalize_rows(u.data_ptr<decltype(zero)>(), u.numel() / u.size(-1), u.size(-1));
      });
    }
    rows[part].copy_(u);
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
  std::vector<at::Tensor> dtaps;
  for (int64_t direction = 0; direction < 2; ++direction) {
    for (int64_t part = 0; part < 3; ++part) {
      const at::Tensor pre = convolved(problem, part)[direction], s = pre.sigmoid(), u = pre * s;
      at::Tensor du = grad_rows[part][direction].to(u.scalar_type());
      if (normalized(problem, part)) {
        const at::Tensor scale = u.square().sum(-1, true).add_(kRowNormEps).rsqrt_();
        du = scale * (du - u * scale.square() * (u * du).sum(-1, true));
      }
      const at::Tensor dpre = du * s * (1 + pre * (1 - s));
      dtaps.push_back(convolve_backward(problem.qkv.select(2, part), dpre,
                                        problem.taps[direction][part], direction == 1,
                                        dqkv.select(2, part)));
    }
  }
  grad_qkv.copy_(dqkv);
  return at::stack(dtaps).view(problem.taps.sizes());
}

template <typename Accum>
void merge_norm_gate(const MixerOutput<Accum>& p, const Accum* gate, const Accum* o, Accum* merged,
                     Accum* y) {
  const MixerShape& s = p.shape;
  const int64_t dim = s.dim, count = s.batch * s.length * s.heads;
  at::parallel_for(0, count, 256, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      const Accum *first = o + n * dim, *second = o + (count + n) * dim;
      Accum *m = merged + n * dim, *out = y + n * dim;
      Accum sum = 0;
      for (int64_t i = 0; i < dim; ++i) {
        m[i] = p.factor * (first[i] + second[i]);
        sum += m[i] * m[i];
      }
      const Accum scale = 1 / std::sqrt(sum / static_cast<Accum>(dim) + p.eps);
      for (int64_t i = 0; i < dim; ++i) {
        out[i] = m[i] * scale * p.weight[i];
      }
      if (gate != nullptr) {
        for (int64_t i = 0; i < dim; ++i) {
          out[i] *= gate[n * dim + i];
        }
      }
    }
  });
}

void output(const MixerProblem& given, const at::Tensor& o, const at::Tensor& merged,
            const at::Tensor& y) {
  const MixerProblem problem = widened(given);
  const at::Tensor wide = widened(o, problem).contiguous();
  const at::Tensor gate =
      problem.gate.defined() ? at::sigmoid(problem.gate).contiguous() : at::Tensor();
  const at::Tensor m = at::empty(merged.sizes(), wide.options()), out = at::empty_like(m);
  with_accum(problem, [&](auto zero) {
    using Accum = decltype(zero);
    merge_norm_gate(make_mixer_output<Accum>(problem),
                    gate.defined() ? gate.const_data_ptr<Accum>() : nullptr,
                    wide.const_data_ptr<Accum>(), m.data_ptr<Accum>(), out.data_ptr<Accum>());
  });
  merged.copy_(m);
  y.copy_(out);
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
    const at::Tensor g = at::sigmoid(problem.gate);
    grad_gate.copy_(dy * n * problem.norm_weight * g * (1 - g));
    dz = dy * g;
  }
  const at::Tensor dn = dz * problem.norm_weight;
  grad_o.copy_(scale * (dn - n * (dn * n).mean(-1, true)));
  constexpr int64_t kAllButRow[] = {0, 1, 2};
  return (dz * n).sum(kAllButRow);
}

constexpr MixerBackend kBackend{&rows, &rows_backward, &output, &output_backward};

}  // namespace

TORCH_LIBRARY_IMPL(comba, CPU, m) { register_mixer_operators<&kBackend>(m); }

}  // namespace comba::kernels
