// Pixels as a network takes them.
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

namespace comba::vision {

// pixels [N, S, S, C] uint8 (host) -> [N, C, S, S] fp32 on `device`, scaled to 0..1, mean and std applied
class Normaliser {
 public:
  Normaliser(const std::vector<double>& mean, const std::vector<double>& std,
             const c10::Device& device);
  at::Tensor operator()(const at::Tensor& pixels) const;
  // [C] fp32 on the device: pixels are multiplied by the one, then the other is added.
  at::Tensor scale() const { return scale_.flatten(); }
  at::Tensor shift() const { return shift_.flatten(); }
  // The same of pixels that are on the device already, into `images`.
  void write(const at::Tensor& pixels, at::Tensor& images) const;

 private:
  c10::Device device_;
  at::Tensor scale_, shift_;  // [1, C, 1, 1] fp32
};

}  // namespace comba::vision
