// The Comba mixer for inference: one product for q, k, v, output gate and, on the CPU, gates; the operators of kernels/ between.
#pragma once

#include "kernels/mixer_inference.h"
#include "vision/nn/comba_mixer.h"

#include <memory>

namespace comba::vision {

// Scan options as CombaMixer's; on the CPU for both directions, merged, with short convolutions.
struct CombaScan {
  bool decayed_feedback = false, normalize = true;
  double feedback = 1, norm_eps = 1e-6;
  std::string merge;
};

std::unique_ptr<PreparedMixer> prepare_comba(const CombaMixer& mixer, const CombaScan& scan,
                                             const at::TensorOptions& options);

}  // namespace comba::vision
