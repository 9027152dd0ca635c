#include "tracking/network_runner.h"

#include "vision/base/error.h"
#include "vision/engine/precision.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>

#ifdef COMBA_CUDA
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#endif

namespace comba::tracking {
namespace {

// So that autocast does not cast them again for every frame.
void round_matrices(torch::nn::Module& network) {
  const at::NoGradGuard no_grad;
  const auto round = [](torch::Tensor& x) {
    if (x.defined()) {
      x.set_data(x.to(at::kBFloat16));
    }
  };
  for (const auto& module : network.modules(/*include_self=*/false)) {
    if (auto* const linear = module->as<torch::nn::Linear>()) {
      round(linear->weight);
      round(linear->bias);
    } else if (auto* const convolution = module->as<torch::nn::Conv2d>()) {
      round(convolution->weight);
      round(convolution->bias);
    }
  }
}

}  // namespace

// A graph and the tensors it reads and writes.
struct NetworkRunner::Captured {
  at::Tensor pixels;  // [N, 3, S, S] fp32, normalised
  at::Tensor answer;  // [N, 5]
#ifdef COMBA_CUDA
  at::cuda::CUDAGraph graph;
#endif
};

NetworkRunner::NetworkRunner(const TrackerBundle& bundle, const c10::Device& device)
    : network_(std::dynamic_pointer_cast<NetworkImpl>(bundle.network.ptr())),
      device_(device),
      normalise_(bundle.config.data.mean, bundle.config.data.std, device),
      window_(hann_window(bundle.config.network.cells()).to(device)) {
  network_->to(device);
  network_->eval();
  if (device.is_cuda()) {
    round_matrices(*network_);
  }
}

NetworkRunner::~NetworkRunner() = default;

void NetworkRunner::set_templates(const at::Tensor& templates) {
  const at::Tensor normalised =
      normalise_(templates.flatten(0, 1)).unflatten(0, {templates.size(0), templates.size(1)});
  if (templates_.defined() && templates_.sizes() == normalised.sizes()) {
    templates_.copy_(normalised);  // where the graph reads them
  } else {
    templates_ = normalised;
    graphs_.clear();
  }
}

at::Tensor NetworkRunner::forward(const at::Tensor& templates, const at::Tensor& search) const {
  const CenterBoxes boxes = decode(network_->forward(templates, search), window_);
  return at::cat({boxes.boxes, boxes.score.unsqueeze(1)}, 1).to(at::kFloat);
}

NetworkRunner::Captured& NetworkRunner::captured(int64_t objects) {
  auto& slot = graphs_[objects];
  if (slot) {
    return *slot;
  }
  slot = std::make_unique<Captured>();
  const int64_t side = network_->config().backbone.image_size;
  slot->pixels = at::zeros({objects, 3, side, side}, templates_.options());
#ifdef COMBA_CUDA
  const vision::AutocastScope autocast(vision::Precision::bf16);
  const auto stream = c10::cuda::getStreamFromPool(/*isHighPriority=*/true, device_.index());
  const c10::cuda::CUDAStreamGuard guard(stream);
  for (int i = 0; i < 3; ++i) {
    forward(templates_, slot->pixels);  // libraries choose their kernels
  }
  stream.synchronize();
  slot->graph.capture_begin();
  slot->answer = forward(templates_, slot->pixels);
  slot->graph.capture_end();
#endif
  return *slot;
}

std::vector<Answer> NetworkRunner::run(const at::Tensor& search) {
  const at::InferenceMode no_autograd(false);
  const at::NoGradGuard no_grad;
  COMBA_CHECK(templates_.defined() && templates_.size(0) == search.size(0),
              "tracking: {} search crops for {} templates", search.size(0),
              templates_.defined() ? templates_.size(0) : 0);
  at::Tensor answer;
  if (device_.is_cuda()) {
#ifdef COMBA_CUDA
    Captured& c = captured(search.size(0));
    c.pixels.copy_(normalise_(search));
    c.graph.replay();
    answer = c.answer.cpu();
#endif
  } else {
    answer = forward(templates_, normalise_(search));
  }
  answer = answer.contiguous();
  std::vector<Answer> answers;
  for (int64_t n = 0; n < answer.size(0); ++n) {
    const float* const a = answer.const_data_ptr<float>() + n * 5;
    answers.push_back({a[0], a[1], a[2], a[3], a[4]});
  }
  return answers;
}

}  // namespace comba::tracking
