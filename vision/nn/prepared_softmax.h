// Softmax attention for inference.
#pragma once

#include "vision/nn/softmax_mixer.h"

#include <memory>

namespace comba::vision {

std::unique_ptr<PreparedMixer> prepare_softmax(const SoftmaxMixer& mixer, int64_t heads,
                                               const at::TensorOptions& options);

}  // namespace comba::vision
