#include "tracking/network_runner.h"

#include "vision/base/error.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>

#ifdef COMBA_CUDA
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#endif

namespace comba::tracking {

// What the frames of N objects pass through; on CUDA page-locked memory and the graph that reads and writes it.
struct NetworkRunner::Buffers {
  at::Tensor pixels;  // [N, S, S, 3]
  at::Tensor rows;    // [N, F F, kHeadColumns]
#ifdef COMBA_CUDA
  at::Tensor device_pixels, device_rows;
  std::unique_ptr<at::cuda::CUDAGraph> graph;
#endif
};

namespace {

Network ready(Network network, const c10::Device& device) {
  network->to(device);  // for layers without an inference form of their own
  network->eval();
  return network;
}

}  // namespace

NetworkRunner::NetworkRunner(const TrackerBundle& bundle, const c10::Device& device)
    : network_(ready(bundle.network, device), bundle.config.data.mean, bundle.config.data.std,
               device),
      device_(device),
      side_(bundle.config.network.backbone.image_size),
      cells_(bundle.config.network.cells()),
      window_(hann_window(cells_).contiguous()) {}

NetworkRunner::~NetworkRunner() = default;

void NetworkRunner::set_templates(const at::Tensor& templates) {
  const int64_t before = network_.objects();
  network_.set_templates(templates);
  if (network_.objects() != before) {
    buffers_.reset();  // graphs read tensors that are gone
  }
}

NetworkRunner::Buffers& NetworkRunner::buffers() {
  if (!buffers_) {
    buffers_ = std::make_unique<Buffers>();
    const auto bytes = at::TensorOptions().dtype(at::kByte).pinned_memory(device_.is_cuda());
    buffers_->pixels = at::zeros({network_.objects(), side_, side_, 3}, bytes);
  }
  return *buffers_;
}

at::Tensor NetworkRunner::search_pixels() { return buffers().pixels; }

#ifdef COMBA_CUDA
void NetworkRunner::capture(Buffers& b) const {
  b.device_pixels = b.pixels.to(device_);
  const auto stream = c10::cuda::getStreamFromPool(/*isHighPriority=*/true, device_.index());
  stream.synchronize();
  const c10::cuda::CUDAStreamGuard guard(stream);
  const auto copy = [&](const at::Tensor& to, const at::Tensor& from) {
    C10_CUDA_CHECK(cudaMemcpyAsync(to.data_ptr(), from.const_data_ptr(), from.nbytes(),
                                   cudaMemcpyDefault, stream));
  };
  for (int i = 0; i < 3; ++i) {
    b.device_rows = network_.forward(b.device_pixels);  // libraries choose their kernels
  }
  b.rows = at::zeros(b.device_rows.sizes(),
                     b.device_rows.options().device(at::kCPU).pinned_memory(true));
  stream.synchronize();
  b.graph = std::make_unique<at::cuda::CUDAGraph>();
  b.graph->capture_begin();
  copy(b.device_pixels, b.pixels);
  b.device_rows = network_.forward(b.device_pixels);
  copy(b.rows, b.device_rows);
  b.graph->capture_end();
}
#endif

std::vector<Answer> NetworkRunner::run() {
  const at::NoGradGuard no_grad;
  Buffers& b = buffers();
#ifdef COMBA_CUDA
  if (device_.is_cuda()) {
    const c10::cuda::CUDAGuard guard(device_);
    if (!b.graph) {
      c10::cuda::device_synchronize();  // the templates
      capture(b);
    }
    b.graph->replay();
    c10::cuda::getCurrentCUDAStream().synchronize();
  }
#endif
  if (!device_.is_cuda()) {
    b.rows = network_.forward(b.pixels);
  }
  const at::Tensor rows = b.rows.to(at::kFloat).contiguous();
  std::vector<Answer> answers;
  for (int64_t n = 0; n < rows.size(0); ++n) {
    answers.push_back(read_answer(rows.const_data_ptr<float>() + n * rows.stride(0),
                                  window_.const_data_ptr<float>(), cells_));
  }
  return answers;
}

}  // namespace comba::tracking
