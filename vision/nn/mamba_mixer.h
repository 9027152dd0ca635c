// The mixer of Vision Mamba, second version (arXiv 2401.09417): a selective scan in either direction over convolved tokens.
//
//   x, z = in_proj;   per direction: u = silu(causal conv of x);   delta, B, C = x_proj u
//   y = selective_scan(u, dt_proj delta, -exp(A_log), B, C, D, z), see kernels/selective_scan/selective_scan.h
//   out_proj of the mean of both directions' y
//
// Parameter names are those of its checkpoints, the second direction's with _b.
#pragma once

#include "vision/nn/mixer.h"

#include <array>

#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>

namespace comba::vision {

class MambaMixer : public Mixer {
 public:
  static constexpr int64_t kStates = 16, kTaps = 4;
  static constexpr int64_t inner_width(int64_t width) { return 2 * width; }
  static constexpr int64_t delta_rank(int64_t width) { return (width + 15) / 16; }

  explicit MambaMixer(const BackboneConfig& config);
  torch::Tensor forward(const torch::Tensor& x, int64_t prefix = 0) override;

  struct Direction {
    torch::nn::Conv1d conv1d{nullptr};   // depthwise, C = inner_width channels
    torch::nn::Linear x_proj{nullptr};   // C -> delta's rank, then B and C of kStates each
    torch::nn::Linear dt_proj{nullptr};  // rank -> C
    torch::Tensor A_log;                 // [C, kStates]
    torch::Tensor D;                     // [C]
  };
  torch::nn::Linear in_proj{nullptr}, out_proj{nullptr};
  std::array<Direction, 2> directions;  // forward first

 private:
  Direction make_direction(int64_t width, const char* suffix, const char* rate_name);
  // x, z: [B, T, C] -> [B, T, C]
  torch::Tensor scanned(size_t r, const torch::Tensor& x, const torch::Tensor& z) const;
};

}  // namespace comba::vision
