#include "vision/engine/training_step.h"

#include "vision/base/error.h"
#include "vision/engine/distributed.h"

#include <algorithm>
#include <functional>

#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>

#ifdef COMBA_CUDA
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#endif

namespace comba::vision {
namespace {

constexpr int kWarmUps = 3;  // steps in which libraries choose their kernels and take their memory

c10::Device device_of(const torch::nn::Module& model) {
  const auto parameters = model.parameters();
  COMBA_CHECK(!parameters.empty(), "training: the model has no parameters");
  return parameters.front().device();
}

std::vector<at::Tensor> part_of(const std::vector<at::Tensor>& batch, int64_t part, int64_t parts) {
  std::vector<at::Tensor> out;
  for (const at::Tensor& tensor : batch) {
    const int64_t size = tensor.size(0) / parts;
    out.push_back(tensor.narrow(0, part * size, size));
  }
  return out;
}

}  // namespace

#ifdef COMBA_CUDA
class RecordedStep {
 public:
  // `compute` is run once, on the batch that replays read, and leaves no trace but the recording. `keep`: that is `batch`
  // itself, not a copy.
  RecordedStep(const std::vector<at::Tensor>& batch, bool keep,
               const std::function<void(const std::vector<at::Tensor>&)>& compute) {
    for (const at::Tensor& tensor : batch) {
      batch_.push_back(keep ? tensor : tensor.clone());
    }
    // The graph's memory is its own; what the steps before have held goes back first.
    c10::cuda::device_synchronize();
    c10::cuda::CUDACachingAllocator::emptyCache();
    // Other threads, those of loaders and ranks, may use the device meanwhile.
    graph_.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
    try {
      compute(batch_);
    } catch (...) {
      end_quietly();
      throw;
    }
    graph_.capture_end();
  }

  // Whether it was recorded for such a batch.
  bool takes(const std::vector<at::Tensor>& batch) const {
    return std::equal(batch.begin(), batch.end(), batch_.begin(), batch_.end(),
                      [](const at::Tensor& a, const at::Tensor& b) {
                        return a.sizes() == b.sizes() && a.scalar_type() == b.scalar_type();
                      });
  }

  void replay(const std::vector<at::Tensor>& batch) {
    const at::NoGradGuard no_grad;
    for (size_t i = 0; i < batch_.size(); ++i) {
      if (!batch_[i].is_same(batch[i])) {
        batch_[i].copy_(batch[i], /*non_blocking=*/true);
      }
    }
    graph_.replay();
  }

 private:
  void end_quietly() {
    try {
      graph_.capture_end();
    } catch (const std::exception&) {  // the first error says what was wrong
    }
  }

  std::vector<at::Tensor> batch_;
  at::cuda::CUDAGraph graph_;
};
#else
class RecordedStep {
 public:
  RecordedStep(const std::vector<at::Tensor>&, bool,
               const std::function<void(const std::vector<at::Tensor>&)>&) {}
  bool takes(const std::vector<at::Tensor>&) const { return true; }
  void replay(const std::vector<at::Tensor>&) {}
};
#endif

TrainingStep::TrainingStep(Task& task, Optimizer& optimizer, const TrainingStepOptions& options)
    : task_(task),
      optimizer_(optimizer),
      options_(options),
      history_(device_of(task.model())),
      warm_ups_left_(kWarmUps) {
  options_.record = options.record && device_of(task.model()).is_cuda();
}

TrainingStep::~TrainingStep() = default;

void TrainingStep::forget() { recorded_.reset(); }

void TrainingStep::run(double lr) {
  const std::vector<at::Tensor> batch = task_.next_batch();
  optimizer_.set_lr(lr);
  if (recorded_ && !recorded_->takes(batch)) {  // as when mixing ends: labels instead of shares
    recorded_.reset();
    warm_ups_left_ = 1;
  }
  if (!options_.record || warm_ups_left_ > 0) {
    compute(batch);
    warm_ups_left_ = std::max(warm_ups_left_ - 1, 0);
    return;
  }
  if (!recorded_) {
    record(batch);
  }
  recorded_->replay(batch);
}

void TrainingStep::record(const std::vector<at::Tensor>& batch) {
  try {
    recorded_ = std::make_unique<RecordedStep>(
        batch, options_.same_tensors,
        [this](const std::vector<at::Tensor>& static_batch) { compute(static_batch); });
  } catch (const c10::OutOfMemoryError&) {
    throw;
  } catch (const std::exception& error) {
    throw Error(fmt::format(
        "recording the training step as a CUDA graph failed; set train.cuda_graph = false to train "
        "without: {}",
        error.what()));
  }
}

void TrainingStep::compute(const std::vector<at::Tensor>& batch) {
  COMBA_CHECK(batch[0].size(0) % options_.parts == 0,
              "configuration: train.accumulate = {}: expected a divisor of the {} images of a step",
              options_.parts, batch[0].size(0));
  for (int64_t part = 0; part < options_.parts; ++part) {
    at::Tensor loss;
    {
      const AutocastScope autocast(options_.precision);
      loss = task_.loss(options_.parts == 1 ? batch : part_of(batch, part, options_.parts));
    }
    COMBA_CHECK(loss.dim() == 0, "training: the task's loss has {} dimensions, expected a scalar",
                loss.dim());
    if (options_.parts > 1) {
      loss = loss / static_cast<double>(options_.parts);
    }
    if (reducer_ != nullptr) {
      reducer_->set_active(part == options_.parts - 1);
    }
    loss.backward();
    history_.add_loss(loss);
  }
  if (reducer_ != nullptr) {
    reducer_->finish();
  }
  optimizer_.step();
  history_.close(optimizer_.last_norm());
}

}  // namespace comba::vision
