#include "vision/nn/normaliser.h"

#include <cstring>

#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

namespace comba::vision {
namespace {

at::Tensor per_channel(const std::vector<double>& values) {
  return at::tensor(values, at::kDouble).view({1, -1, 1, 1});
}

}  // namespace

Normaliser::Normaliser(const std::vector<double>& mean, const std::vector<double>& std,
                       const c10::Device& device)
    : device_(device) {
  const at::Tensor deviation = per_channel(std);
  scale_ = deviation.mul(255.0).reciprocal().to(at::kFloat).to(device);
  shift_ = per_channel(mean).div(deviation).neg().to(at::kFloat).to(device);
}

at::Tensor Normaliser::operator()(const at::Tensor& pixels) const {
  at::Tensor moved = pixels;
  if (device_.is_cuda()) {
    // Not pin_memory(): it copies with the threads of LibTorch's pool, which wait for cores that a loader keeps busy.
    const at::Tensor from = pixels.contiguous();
    const at::Tensor pinned = at::empty(from.sizes(), from.options().pinned_memory(true));
    std::memcpy(pinned.mutable_data_ptr(), from.const_data_ptr(), from.nbytes());
    moved = pinned.to(device_, /*non_blocking=*/true);
  }
  const int64_t count = moved.size(0), height = moved.size(1), width = moved.size(2);
  at::Tensor images =
      at::empty({count, moved.size(3), height, width}, moved.options().dtype(at::kFloat));
  write(moved, images);
  return images;
}

void Normaliser::write(const at::Tensor& pixels, at::Tensor& images) const {
  images.copy_(pixels.permute({0, 3, 1, 2})).mul_(scale_).add_(shift_);
}

}  // namespace comba::vision
