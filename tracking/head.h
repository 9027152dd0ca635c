// The centre head of one-stream trackers (OSTrack 33b5e12, lib/models/layers/head.py): where the target's centre is, how far
// it lies from its cell's corner, and how large it is, each from a stack of 3 x 3 convolutions over the search tokens.
#pragma once

#include <cstdint>

#include <torch/nn/cloneable.h>
#include <torch/nn/module.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/pimpl.h>

namespace comba::tracking {

// Over the F x F cells of the search image; fp32.
struct CenterMaps {
  torch::Tensor score;   // [B, 1, F, F] in [1e-4, 1 - 1e-4]
  torch::Tensor size;    // [B, 2, F, F] width and height in search images, likewise
  torch::Tensor offset;  // [B, 2, F, F] x and y in cells
};

class CenterHeadImpl : public torch::nn::Module {
 public:
  // `width`: channels of the first layer (256 in OSTrack); the next have a half, a quarter and an eighth.
  CenterHeadImpl(int64_t in_channels, int64_t width);
  CenterMaps forward(const torch::Tensor& features);  // [B, in_channels, F, F]

 private:
  torch::nn::Sequential score_{nullptr}, offset_{nullptr}, size_{nullptr};
};
TORCH_MODULE(CenterHead);

struct CenterBoxes {
  torch::Tensor boxes;  // [B, 4] centre x, centre y, width, height in search images
  torch::Tensor score;  // [B] of the chosen cell, without the window
};

// The box of the cell whose score, times `window` [F, F] if defined, is highest.
CenterBoxes decode(const CenterMaps& maps, const torch::Tensor& window = {});

// Product of 0.5 (1 - cos(2 pi k / (size + 1))), k = 1 .. size: nowhere zero.
torch::Tensor hann_window(int64_t size);

}  // namespace comba::tracking
