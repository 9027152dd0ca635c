#include "classify/training_batches.h"

#include "classify/erasing.h"
#include "classify/evaluate.h"
#include "vision/base/error.h"
#include "vision/base/stopwatch.h"

#include <algorithm>

#include <ATen/ops/tensor.h>
#include <fmt/format.h>

namespace comba::classify {
namespace {

// images [N, C, S, S] fp32, normalised -> [N, S, S, C] uint8 on the CPU
at::Tensor to_pixels(const at::Tensor& images, const DataOptions& data) {
  const auto per_channel = [](const std::vector<double>& values) {
    return at::tensor(values, at::kFloat).view({1, -1, 1, 1});
  };
  return (images.cpu() * per_channel(data.std) + per_channel(data.mean))
      .mul(255)
      .round()
      .clamp(0, 255)
      .to(at::kByte)
      .permute({0, 2, 3, 1})
      .contiguous();
}

std::string caption_of(const TrainingBatch& batch, const std::vector<std::string>& names,
                       int64_t place) {
  const auto name = [&](int64_t at) {
    return names[static_cast<size_t>(batch.labels[at].item<int64_t>())];
  };
  const double share = batch.mixes.empty() ? 1.0 : batch.mixes[static_cast<size_t>(place)].share;
  if (share == 1.0) {
    return name(place);
  }
  const int64_t partner = mix_partner(place, batch.labels.size(0));
  return fmt::format("{:.2f} {}\n{:.2f} {}", share, name(place), 1.0 - share, name(partner));
}

}  // namespace

std::vector<datasets::SheetTile> pictures_of(const TrainingBatch& batch,
                                             const std::vector<std::string>& class_names,
                                             const DataOptions& data, int64_t count) {
  const at::Tensor pixels =
      to_pixels(batch.images.narrow(0, 0, std::min(count, batch.images.size(0))), data);
  const auto side = static_cast<int>(pixels.size(1)), channels = static_cast<int>(pixels.size(3));
  std::vector<datasets::SheetTile> tiles;
  for (int64_t i = 0; i < pixels.size(0); ++i) {
    const at::Tensor image = pixels[i];
    const auto* const first = image.const_data_ptr<uint8_t>();
    tiles.push_back({{side, side, channels, {first, first + image.numel()}},
                     caption_of(batch, class_names, i)});
  }
  return tiles;
}

TrainingBatches::TrainingBatches(const RunConfig& config, const c10::Device& device)
    : config_(config),
      device_(device),
      stream_(open_stream(config, Purpose::training)),
      normalise_(config.data.mean, config.data.std, device) {}

void TrainingBatches::start(int64_t epoch, int64_t first_step) {
  epoch_ = epoch;
  step_ = first_step;
  const bool fixed = config_.data.synthetic_fixed_batch;
  if (!fixed || !images_.defined()) {
    stream_->start(fixed ? 0 : epoch, fixed ? 0 : first_step);
  }
}

void TrainingBatches::fetch() {
  if (config_.data.synthetic_fixed_batch && images_.defined()) {
    return;
  }
  const Stopwatch watch;
  COMBA_CHECK(stream_->next(batch_), "fetching a training batch: the epoch has ended early");
  wait_ += watch.seconds();
  images_ = normalise_(pixels_of(batch_, config_.model.image_size, config_.model.in_channels));
  labels_ = labels_of(batch_).to(device_, at::kLong, /*non_blocking=*/false, /*copy=*/true);
  std::vector<datasets::SampleKey> keys;
  for (size_t i = 0; i < batch_.indices.size(); ++i) {
    keys.push_back(
        {static_cast<uint64_t>(config_.seed), epoch_, batch_.indices[i], batch_.views[i]});
  }
  erase_(images_, config_.erase, keys);
}

TrainingBatch TrainingBatches::next() {
  fetch();
  const int64_t step = step_++;
  if (!config_.mix.on(epoch_)) {
    return {images_, labels_, {}};
  }
  const auto mixes = draw_mixes(config_.mix, images_.size(0), images_.size(2),
                                static_cast<uint64_t>(config_.seed), epoch_, step);
  return {mix_images(images_, mixes), labels_, mixes};
}

}  // namespace comba::classify
