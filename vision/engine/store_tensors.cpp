#include "vision/base/error.h"
#include "vision/engine/tensor_exchange.h"

#include <cstring>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/from_blob.h>

namespace comba::vision {
namespace {

Exchange::Bytes bytes_of(const at::Tensor& tensor) {
  const auto* const first = static_cast<const uint8_t*>(tensor.const_data_ptr());
  return {first, first + tensor.nbytes()};
}

class StoreTensors final : public TensorExchange {
 public:
  StoreTensors(Exchange& exchange, int64_t size) : exchange_(exchange), size_(size) {}

  // In the order of the ranks, on every one of them: so all get the same bits.
  void sum(const at::Tensor& tensor) override {
    const at::NoGradGuard no_grad;
    std::vector<Exchange::Bytes> all = exchange_.gather(bytes_of(tensor));
    for (size_t rank = 0; rank < all.size(); ++rank) {
      check_size(tensor, all[rank]);
      const at::Tensor theirs =
          at::from_blob(all[rank].data(), tensor.sizes(), tensor.scalar_type());
      if (rank == 0) {
        tensor.copy_(theirs);
      } else {
        tensor.add_(theirs);
      }
    }
  }

  Ranks::Wait start_mean(const at::Tensor& tensor) override {
    const at::NoGradGuard no_grad;
    sum(tensor);
    tensor.div_(static_cast<double>(size_));
    return [] {};
  }

  void broadcast(const at::Tensor& tensor) override {
    const Exchange::Bytes first = exchange_.broadcast(bytes_of(tensor));
    check_size(tensor, first);
    std::memcpy(tensor.mutable_data_ptr(), first.data(), first.size());
  }

 private:
  static void check_size(const at::Tensor& tensor, const Exchange::Bytes& bytes) {
    COMBA_CHECK(bytes.size() == tensor.nbytes(),
                "exchanging a tensor among the ranks: another rank's has {} bytes, expected {}; do "
                "all ranks run the same program and configuration?",
                bytes.size(), tensor.nbytes());
  }

  Exchange& exchange_;
  int64_t size_;
};

}  // namespace

std::unique_ptr<TensorExchange> store_tensors(Exchange& exchange, int64_t size) {
  return std::make_unique<StoreTensors>(exchange, size);
}

}  // namespace comba::vision
