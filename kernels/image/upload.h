// Tables that kernels read, sent to the device in one copy that the host does not wait for.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include <ATen/ops/empty.h>

namespace comba::kernels::image {

class Upload {
 public:
  // Returns where the table will lie in what send() gives, bytes.
  template <typename T>
  int64_t add(const std::vector<T>& table) {
    const auto at = static_cast<int64_t>(bytes_.size() + 15) / 16 * 16;
    bytes_.resize(static_cast<size_t>(at) + table.size() * sizeof(T));
    if (!table.empty()) {
      std::memcpy(bytes_.data() + at, table.data(), table.size() * sizeof(T));
    }
    return at;
  }

  // [bytes] uint8 there. The pinned memory between is given back once the copy is done.
  at::Tensor send(const at::Device& device) const {
    const auto size = static_cast<int64_t>(bytes_.size());
    const at::Tensor pinned =
        at::empty({size}, at::TensorOptions().dtype(at::kByte).pinned_memory(true));
    std::memcpy(pinned.mutable_data_ptr(), bytes_.data(), bytes_.size());
    return pinned.to(device, /*non_blocking=*/true);
  }

 private:
  std::vector<uint8_t> bytes_;
};

}  // namespace comba::kernels::image
