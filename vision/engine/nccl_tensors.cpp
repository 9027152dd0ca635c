#include "vision/base/error.h"
#include "vision/engine/tensor_exchange.h"

#ifdef COMBA_NCCL
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

namespace comba::vision {
#ifdef COMBA_NCCL
namespace {

class NcclTensors final : public TensorExchange {
 public:
  NcclTensors(const StorePointer& store, const RankPlace& place, const c10::Device& device) {
    auto options = c10d::ProcessGroupNCCL::Options::create(/*is_high_priority_stream=*/true);
    group_ = c10::make_intrusive<c10d::ProcessGroupNCCL>(
        c10::make_intrusive<c10d::PrefixStore>("nccl", store), static_cast<int>(place.rank),
        static_cast<int>(place.size), std::move(options));
    group_->setBoundDeviceId(device);
  }
  ~NcclTensors() override { group_->shutdown(); }

  void sum(const at::Tensor& tensor) override { reduce(tensor, c10d::ReduceOp::SUM)->wait(); }

  Ranks::Wait start_mean(const at::Tensor& tensor) override {
    return [work = reduce(tensor, c10d::ReduceOp::AVG)] { work->wait(); };
  }

  void broadcast(const at::Tensor& tensor) override {
    std::vector<at::Tensor> tensors = {tensor};
    group_->broadcast(tensors, {})->wait();
  }

 private:
  c10::intrusive_ptr<c10d::Work> reduce(const at::Tensor& tensor, c10d::ReduceOp operation) {
    std::vector<at::Tensor> tensors = {tensor};
    c10d::AllreduceOptions options;
    options.reduceOp = std::move(operation);
    return group_->allreduce(tensors, options);
  }

  c10::intrusive_ptr<c10d::ProcessGroupNCCL> group_;
};

}  // namespace
#endif

std::unique_ptr<TensorExchange> nccl_tensors(const StorePointer& store, const RankPlace& place,
                                             const c10::Device& device) {
#ifdef COMBA_NCCL
  return std::make_unique<NcclTensors>(store, place, device);
#else
  throw Error(fmt::format(
      "joining {} ranks on GPUs (rank {}, {}, store {}): this program was built without NCCL; "
      "build "
      "it where CMake finds nccl.h (the wheel nvidia-nccl-cu13 has it), or train on one GPU",
      place.size, place.rank, device.str(), store ? "found" : "absent"));
#endif
}

}  // namespace comba::vision
