// The inference kernels (inference_kernel.h), compiled once per instruction set beside the scan's.
#pragma once

#include "kernels/mixer_params.h"

#include <cstdint>

namespace comba::kernels {

constexpr int64_t kMostInferenceTaps = 4;

// See kernels/mixer_inference.h. Tasks are (direction * batch + sample) * heads + head.
struct MixerInferenceParams {
  int64_t batch = 0, length = 0, heads = 0, dim = 0, taps_count = 0;
  const float* qkv = nullptr;
  int64_t batch_stride = 0, time_stride = 0, part_stride = 0, head_stride = 0;
  const float* raw = nullptr;
  int64_t raw_batch_stride = 0, raw_time_stride = 0;
  const float* gate = nullptr;  // or null
  int64_t gate_batch_stride = 0, gate_time_stride = 0, gate_head_stride = 0;
  const float *taps = nullptr, *rate = nullptr, *bias = nullptr, *feedback = nullptr, *d = nullptr,
              *norm_weight = nullptr;
  float scale = 1, factor = 1, norm_eps = 0;
  bool decayed_feedback = false, normalize = true;
  const float *earlier_rows = nullptr, *earlier_states = nullptr;  // or null: zero
  float* states = nullptr;                                         // [2, B, H, D, D]
  float* o = nullptr;                                              // [2, B, T, H, D]
  float* y = nullptr;                                              // [B, T, H, D]
};

struct InferenceKernels {
  int lanes = 1;  // D has to be a multiple of it
  void (*task)(const MixerInferenceParams& params, int64_t n);
  void (*output)(const MixerInferenceParams& params, int64_t first, int64_t end);
  void (*rms)(const float* x, const float* weight, float eps, int64_t rows, int64_t dim, float* y);
  void (*gelu)(float* x, int64_t count);
};

const InferenceKernels& inference_kernels();  // those of this CPU

namespace isa_default {
InferenceKernels inference();
}
namespace isa_avx2 {
InferenceKernels inference();
}
namespace isa_avx512 {
InferenceKernels inference();
}

}  // namespace comba::kernels
