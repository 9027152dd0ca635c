#include "tracking/prepared_network.h"

#include "vision/base/error.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/tensor.h>

namespace comba::tracking {
namespace {

at::TensorOptions options_on(const c10::Device& device) {
  return at::TensorOptions().device(device).dtype(device.is_cuda() ? at::kHalf : at::kFloat);
}

}  // namespace

PreparedNetwork::PreparedNetwork(const Network& network, const std::vector<double>& mean,
                                 const std::vector<double>& std, const c10::Device& device)
    : config_(network->config()),
      options_(options_on(device)),
      backbone_(network->backbone(), options_, config_.asymmetric),
      head_(network->head(), options_),
      in_parts_(config_.asymmetric && backbone_.takes_parts() && !device.is_cuda()) {
  const at::NoGradGuard no_grad;
  const auto& proj = network->backbone()->patch_embed()->proj;
  // [d, C, p, p] -> [p, p, C, d]: the order of an image's bytes; (x / 255 - mean) / std inside.
  const at::Tensor weight = proj->weight.detach().to(at::kCPU, at::kDouble).permute({2, 3, 1, 0});
  const at::Tensor deviation = at::tensor(std, at::kDouble).view({1, 1, -1, 1}),
                   centre = at::tensor(mean, at::kDouble).view({1, 1, -1, 1});
  constexpr int64_t kTapDims[] = {0, 1, 2};
  patch_weight_ = (weight / (255.0 * deviation)).flatten(0, 2).to(options_).contiguous();
  const at::Tensor bias =
      proj->bias.detach().to(at::kCPU, at::kDouble) - (weight * (centre / deviation)).sum(kTapDims);
  const auto positions = [&](int64_t side) {
    const int64_t cells = side / config_.backbone.patch_size;
    const at::Tensor learned = network->backbone()->positions(cells);
    const at::Tensor sum =
        bias.to(at::kFloat).to(device).view({1, 1, -1}).expand({1, cells * cells, -1});
    return (learned.defined() ? sum + learned.detach().to(device) : sum).to(options_).contiguous();
  };
  template_positions_ = positions(config_.template_size);
  search_positions_ = positions(config_.backbone.image_size);
}

// [N, S, S, C] -> [N, patches, p p C]
at::Tensor PreparedNetwork::patches(const at::Tensor& pixels) const {
  const int64_t p = config_.backbone.patch_size, cells = pixels.size(1) / p;
  return pixels.unflatten(2, {cells, p})
      .unflatten(1, {cells, p})
      .transpose(2, 3)
      .to(options_, /*non_blocking=*/false, /*copy=*/false, at::MemoryFormat::Contiguous)
      .reshape({pixels.size(0), cells * cells, -1});
}

void PreparedNetwork::set_templates(const at::Tensor& pixels) {
  COMBA_CHECK(pixels.dim() == 5 && pixels.size(1) == config_.templates &&
                  pixels.size(2) == config_.template_size && pixels.scalar_type() == at::kByte,
              "tracking: expected {} templates of {} px for each object", config_.templates,
              config_.template_size);
  const at::NoGradGuard no_grad;
  const int64_t objects = pixels.size(0), width = config_.backbone.width;
  const at::Tensor x = patches(pixels.to(options_.device()).flatten(0, 1));
  const at::Tensor tokens =
      (at::matmul(x, patch_weight_) + template_positions_).view({objects, -1, width});
  const at::Tensor search = search_positions_.expand({objects, -1, -1});
  at::Tensor base = in_parts_ ? search.contiguous() : at::cat({tokens, search}, 1);
  if (base_.defined() && base_.sizes() == base.sizes()) {
    base_.copy_(base);
  } else {
    base_ = base;
  }
  if (in_parts_) {
    at::Tensor prefix = tokens.clone();
    backbone_.run_part(prefix, nullptr, &memory_);
  }
}

at::Tensor PreparedNetwork::forward(const at::Tensor& pixels) const {
  const at::NoGradGuard no_grad;
  const int64_t objects = pixels.size(0), own = search_positions_.size(1);
  COMBA_CHECK(objects == this->objects(), "tracking: {} search crops for {} templates", objects,
              this->objects());
  at::Tensor x = base_.clone();
  at::Tensor search = x.narrow(1, x.size(1) - own, own);
  search.baddbmm_(patches(pixels), patch_weight_.expand({objects, -1, -1}));
  if (in_parts_) {
    backbone_.run_part(x, &memory_, nullptr);
  } else {
    backbone_.run(x, config_.asymmetric ? x.size(1) - own : 0);
  }
  return head_(backbone_.norm(search.contiguous()));
}

}  // namespace comba::tracking
