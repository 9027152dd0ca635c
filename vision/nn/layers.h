// Small layers every block is made of.
#pragma once

#include <cstdint>
#include <string>

#include <torch/nn/cloneable.h>
#include <torch/nn/module.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

namespace comba::vision {

// Normal with standard deviation `std`, redrawn outside +-2 (absolute bounds, as timm's trunc_normal_).
void truncated_normal_(const torch::Tensor& tensor, double std);

// Linear with weight ~ truncated normal .02 and zero bias.
torch::nn::Linear make_linear(int64_t in, int64_t out, bool bias);

// "rms": x * rsqrt(mean(x^2) + eps) * weight over the last dimension, statistics in fp32, result in x's
// dtype; "layer": layer normalisation with a bias.
class NormImpl : public torch::nn::Module {
 public:
  NormImpl(const std::string& kind, int64_t size, double eps);
  torch::Tensor forward(const torch::Tensor& x);
  double eps() const { return eps_; }
  torch::Tensor weight;  // [size]
  torch::Tensor bias;    // [size], "layer" only

 private:
  double eps_;
};
TORCH_MODULE(Norm);

// fc1 -> exact (erf) GELU -> fc2.
class MlpImpl : public torch::nn::Module {
 public:
  MlpImpl(int64_t width, int64_t hidden, bool bias);
  torch::Tensor forward(const torch::Tensor& x);
  torch::nn::Linear fc1{nullptr}, fc2{nullptr};
};
TORCH_MODULE(Mlp);

// p x p convolution of stride p with bias, PyTorch's default initialisation.
class PatchEmbedImpl : public torch::nn::Module {
 public:
  PatchEmbedImpl(int64_t channels, int64_t width, int64_t patch_size);
  torch::Tensor forward(const torch::Tensor& images);  // [B, C, S, S] -> [B, (S/p)^2, width]
  torch::nn::Conv2d proj{nullptr};
};
TORCH_MODULE(PatchEmbed);

// Stochastic depth: in training drops a sample's branch with probability `rate`, else divides by 1 - rate.
torch::Tensor drop_path(const torch::Tensor& branch, double rate, bool training);

// x / sqrt(sum(x^2) + eps) over the last dimension; computed in fp32, returned in x's dtype.
torch::Tensor l2_normalize(const torch::Tensor& x, double eps = 1e-6);

}  // namespace comba::vision
