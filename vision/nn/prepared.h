// The inference form of layers: weights rounded, joined and laid out once, work fused where LibTorch or kernels/ offers it. On
// CUDA in the dtype asked for (fp16 keeps 11 bits), on the CPU in fp32. No gradients.
#pragma once

#include "vision/nn/layers.h"

#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

namespace comba::vision {

class PreparedLinear {
 public:
  PreparedLinear() = default;
  // weight [out, in], bias [out] or undefined
  PreparedLinear(const at::Tensor& weight, const at::Tensor& bias,
                 const at::TensorOptions& options);
  at::Tensor operator()(const at::Tensor& x) const;  // [.., in] -> [.., out]
  // GELU of it; in half precision by its tanh form, which differs by less than a half has digits.
  at::Tensor gelu(const at::Tensor& x) const;
  void add_to(at::Tensor& sum, const at::Tensor& x) const;  // sum [.., out] contiguous += it

 private:
  at::Tensor weight_, bias_;  // [in, out], a transposed view; [out]
  at::Tensor gelu_bias_;      // on CUDA: bias_ or zeros
};

class PreparedNorm {
 public:
  PreparedNorm(const Norm& norm, const at::TensorOptions& options);
  at::Tensor operator()(const at::Tensor& x) const;

 private:
  at::Tensor weight_, bias_;
  double eps_;
};

// What tokens need of those before them, in a mixer's own terms.
using MixerMemory = std::vector<at::Tensor>;

class PreparedMixer {
 public:
  virtual ~PreparedMixer() = default;
  // x [B, T, d] contiguous += the mixer of the normalised tokens; `prefix` as Mixer::forward().
  virtual void add_to(at::Tensor& x, const at::Tensor& normalised, int64_t prefix) const = 0;
  // Whether a sequence may come in parts: the prefix first, what it leaves in `after`, the rest with it as `before`.
  virtual bool takes_parts() const { return false; }
  virtual void add_part_to(at::Tensor& x, const at::Tensor& normalised, const MixerMemory* before,
                           MixerMemory* after) const;
};

// Runs all bodies, on CUDA beside each other: work of the current stream waits for them. What they allocate has to live until
// they have all been called.
void run_beside(const std::vector<std::function<void()>>& bodies, const c10::Device& device);

}  // namespace comba::vision
