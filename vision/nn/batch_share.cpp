#include "vision/nn/batch_share.h"

#include <utility>

namespace comba::vision {
namespace {

BatchShare& current() {
  static BatchShare share;
  return share;
}

}  // namespace

void set_batch_share(BatchShare share) { current() = std::move(share); }

const BatchShare& batch_share() { return current(); }

}  // namespace comba::vision
