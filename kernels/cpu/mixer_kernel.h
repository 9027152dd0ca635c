// The passes around the scan on a CPU (kernels/mixer.h), in vectors of W lanes along a head's row.
//
// As scan_kernel.h, compiled under several instruction sets: everything lives in an unnamed namespace.
#pragma once

#include "kernels/cpu/simd.h"
#include "kernels/mixer_params.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace comba::kernels {
namespace {

// target += weight * source, in vectors and what is left.
template <typename Scalar, int W>
inline void add_weighted(Scalar* target, const Scalar* weight, const Scalar* source, int64_t n) {
  int64_t i = 0;
  for (; i + W <= n; i += W) {
    lanes<Scalar, W>(target + i) += lanes<Scalar, W>(weight + i) * lanes<Scalar, W>(source + i);
  }
  for (; i < n; ++i) {
    target[i] += weight[i] * source[i];
  }
}

// One direction of one sample's q, k or v before SiLU: y [T, H, D] contiguous.
template <typename Scalar, int W>
void convolve_sample(const MixerRows<Scalar>& p, int64_t direction, int64_t sample, int64_t part,
                     Scalar* y) {
  const MixerShape& s = p.shape;
  const auto* const x =
      static_cast<const Scalar*>(p.qkv) + sample * p.batch_stride + part * p.part_stride;
  const int64_t width = s.heads * s.dim;
  std::vector<Scalar> taps(static_cast<size_t>(s.taps * width));  // [taps, H, D]: along the row
  for (int64_t i = 0; i < width; ++i) {
    for (int64_t j = 0; j < s.taps; ++j) {
      taps[j * width + i] = p.taps[((direction * 3 + part) * width + i) * s.taps + j];
    }
  }
  for (int64_t t = 0; t < s.length; ++t) {
    Scalar* const row = y + t * width;
    if (s.taps == 0) {
      for (int64_t h = 0; h < s.heads; ++h) {
        const Scalar* const token = x + t * p.time_stride + h * p.head_stride;
        std::copy(token, token + s.dim, row + h * s.dim);
      }
      continue;
    }
    std::fill(row, row + width, Scalar(0));
    for (int64_t j = 0; j < s.taps; ++j) {
      const int64_t back = s.taps - 1 - j, from = direction == 0 ? t - back : t + back;
      for (int64_t h = 0; h < s.heads && from >= 0 && from < s.length; ++h) {
        add_weighted<Scalar, W>(row + h * s.dim, taps.data() + j * width + h * s.dim,
                                x + from * p.time_stride + h * p.head_stride, s.dim);
      }
    }
  }
}

// rows [count, dim], each to unit length.
template <typename Scalar, int W>
void normalize_rows(Scalar* rows, int64_t count, int64_t dim) {
  for (Scalar* row = rows; row < rows + count * dim; row += dim) {
    const Scalar scale = 1 / std::sqrt(dot<Scalar, W>(row, row, dim) + Scalar(kRowNormEps));
    for (int64_t i = 0; i < dim; ++i) {
      row[i] *= scale;
    }
  }
}

// y of the merged row m; `gate` after its sigmoid, or null.
template <typename Scalar, int W>
inline void norm_gate(const MixerOutput<Scalar>& p, const Scalar* m, const Scalar* gate,
                      Scalar* y) {
  const int64_t dim = p.shape.dim;
  const Scalar mean = dot<Scalar, W>(m, m, dim) / static_cast<Scalar>(dim);
  const Scalar scale = 1 / std::sqrt(mean + p.eps);
  for (int64_t i = 0; i < dim; ++i) {
    y[i] = m[i] * scale * p.weight[i];
  }
  for (int64_t i = 0; i < dim && gate != nullptr; ++i) {
    y[i] *= gate[i];
  }
}

// Rows first .. end - 1 of [B T H]; `gate` after its sigmoid, contiguous, or null.
template <typename Scalar, int W>
void merge_norm_gate(const MixerOutput<Scalar>& p, const Scalar* gate, int64_t first, int64_t end) {
  const MixerShape& s = p.shape;
  const int64_t dim = s.dim, count = s.batch * s.length * s.heads;
  const auto* const o = static_cast<const Scalar*>(p.o);
  const int sides = p.apart ? 2 : 1;
  const bool joins = !p.apart && s.directions == 2;
  auto *const merged = static_cast<Scalar*>(p.merged), *const y = static_cast<Scalar*>(p.y);
  for (int64_t n = first; n < end; ++n) {
    const Scalar* const gate_row = gate != nullptr ? gate + n * dim : nullptr;
    for (int side = 0; side < sides; ++side) {
      const int64_t to = (n / s.heads * sides + side) * s.heads + n % s.heads;
      const Scalar* const row = o + (side * count + n) * dim;
      const Scalar* const other = joins ? row + count * dim : nullptr;
      Scalar* const m = merged + to * dim;
      for (int64_t i = 0; i < dim; ++i) {
        m[i] = p.factor * (row[i] + (joins ? other[i] : 0));
      }
      norm_gate<Scalar, W>(p, m, gate_row, y + to * dim);
    }
  }
}

}  // namespace
}  // namespace comba::kernels
