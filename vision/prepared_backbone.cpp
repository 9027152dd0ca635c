#include "vision/prepared_backbone.h"

#include "vision/nn/mixer.h"

#include <algorithm>

namespace comba::vision {

PreparedBackbone::PreparedBackbone(const Backbone& backbone, const at::TensorOptions& options,
                                   bool prefixed)
    : norm_(backbone->norm(), options) {
  for (const Block& block : backbone->blocks()) {
    const Mlp& mlp = block->mlp();
    blocks_.push_back(
        {{block->norm1(), options}, block->mixer().prepare(options, prefixed), std::nullopt});
    if (!mlp.is_empty()) {
      blocks_.back().mlp = PreparedMlp{{block->norm2(), options},
                                       {mlp->fc1->weight, mlp->fc1->bias, options},
                                       {mlp->fc2->weight, mlp->fc2->bias, options}};
    }
  }
}

void PreparedBackbone::run(at::Tensor& x, int64_t prefix) const {
  for (const PreparedBlock& block : blocks_) {
    block.mixer->add_to(x, block.norm(x), prefix);
    block.add_mlp(x);
  }
}

bool PreparedBackbone::takes_parts() const {
  return std::all_of(blocks_.begin(), blocks_.end(),
                     [](const PreparedBlock& block) { return block.mixer->takes_parts(); });
}

void PreparedBackbone::run_part(at::Tensor& x, const std::vector<MixerMemory>* before,
                                std::vector<MixerMemory>* after) const {
  if (after != nullptr) {
    after->resize(blocks_.size());
  }
  for (size_t i = 0; i < blocks_.size(); ++i) {
    blocks_[i].mixer->add_part_to(x, blocks_[i].norm(x),
                                  before != nullptr ? &before->at(i) : nullptr,
                                  after != nullptr ? &after->at(i) : nullptr);
    blocks_[i].add_mlp(x);
  }
}

}  // namespace comba::vision
