#include "vision/layer_decay.h"

#include <charconv>
#include <cmath>
#include <string_view>

namespace comba::vision {
namespace {

int64_t layer_of(std::string_view parameter, int64_t depth) {
  constexpr std::string_view kBlocks = "blocks.";
  if (parameter.starts_with(kBlocks)) {
    int64_t block = 0;
    std::from_chars(parameter.data() + kBlocks.size(), parameter.data() + parameter.size(), block);
    return block + 1;
  }
  for (const std::string_view embedding : {"patch_embed.", "pos_embed", "cls_token"}) {
    if (parameter.starts_with(embedding)) {
      return 0;
    }
  }
  return depth + 1;
}

}  // namespace

double layer_lr_share(const std::string& parameter, int64_t depth, double decay) {
  return decay == 1.0
             ? 1.0
             : std::pow(decay, static_cast<double>(depth + 1 - layer_of(parameter, depth)));
}

}  // namespace comba::vision
