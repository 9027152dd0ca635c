#include "vision/engine/rank_checks.h"

#include "vision/base/error.h"
#include "vision/engine/checkpoint.h"

#include <charconv>
#include <optional>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>

namespace comba::vision {
namespace {

// [bytes] of all tensors, one behind the other.
at::Tensor bytes_of(const NamedTensors& tensors) {
  std::vector<at::Tensor> bytes;
  for (const auto& [name, tensor] : tensors) {
    bytes.push_back(tensor.contiguous().view(-1).view(at::kByte));
  }
  return at::cat(bytes);
}

// The place in `tensors` of the first that differs.
std::optional<size_t> first_difference(Ranks& ranks, const NamedTensors& tensors) {
  const at::Tensor mine = bytes_of(tensors), theirs = mine.clone();
  ranks.broadcast(theirs);
  if (at::equal(mine, theirs)) {
    return std::nullopt;
  }
  const auto byte = mine.ne(theirs).to(at::kByte).argmax().item<int64_t>();
  int64_t end = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    end += static_cast<int64_t>(tensors[i].second.nbytes());
    if (byte < end) {
      return i;
    }
  }
  return std::nullopt;
}

}  // namespace

void check_equal_weights(Ranks& ranks, const torch::nn::Module& model, const std::string& when) {
  if (ranks.size() == 1) {
    return;
  }
  const at::NoGradGuard no_grad;
  const NamedTensors tensors = weights_of(model);
  const auto mine = first_difference(ranks, tensors);
  const std::vector<std::string> all = ranks.gather(mine ? std::to_string(*mine) : "");
  size_t first = tensors.size();
  std::string differing;
  for (size_t rank = 0; rank < all.size(); ++rank) {
    if (!all[rank].empty()) {
      first = std::min(first, static_cast<size_t>(std::stoul(all[rank])));
      differing += fmt::format("{}{}", differing.empty() ? "" : ", ", rank);
    }
  }
  COMBA_CHECK(differing.empty(),
              "comparing the weights of {} ranks {}: {} is the first that differs, on rank {}; "
              "expected the bits of rank 0 on all. Is it one program, configuration and kind of "
              "machine? Else a GPU or a link may be faulty; go on from the last checkpoint with "
              "--resume",
              ranks.size(), when, tensors[first].first, differing);
}

}  // namespace comba::vision
