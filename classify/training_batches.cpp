#include "classify/training_batches.h"

#include "classify/erasing.h"
#include "classify/evaluate.h"
#include "classify/image_tables.h"
#include "vision/base/error.h"
#include "vision/engine/pinned_memory.h"

#include <algorithm>
#include <utility>

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

namespace comba::classify {
namespace {

// The next batch is taken once the last's copy has ended, and that began a step ago.
constexpr size_t kHeld = 1;

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

namespace {

JpegDecoder decoder_for(const RunConfig& config, const c10::Device& device) {
  if (!device.is_cuda() || config.data.nvjpeg_share == 0) {
    return nullptr;
  }
  return nvjpeg_decoder(
      device, fmt::format("configuration: data.nvjpeg_share = {}", config.data.nvjpeg_share));
}

}  // namespace

datasets::BatchMemory memory_for(const c10::Device& device) {
  return device.is_cuda() ? vision::pinned_memory(device) : nullptr;
}

TrainingBatches::TrainingBatches(const RunConfig& config, const c10::Device& device)
    : TrainingBatches(config, device,
                      open_stream(config, Purpose::training, memory_for(device),
                                  device.is_cuda() && config.model.in_channels == 3),
                      decoder_for(config, device)) {}

TrainingBatches::TrainingBatches(const RunConfig& config, const c10::Device& device,
                                 std::unique_ptr<BatchStream> stream, JpegDecoder decoder)
    : config_(config),
      device_(device),
      stream_(std::move(stream)),
      decode_(std::move(decoder)),
      normalise_(config.data.mean, config.data.std, device),
      side_(device),
      batches_(kHeld) {}

void TrainingBatches::start(int64_t epoch, int64_t first_step) {
  drop();
  epoch_ = epoch;
  step_ = first_step;
  const bool fixed = config_.data.synthetic_fixed_batch;
  if (!fixed || !images_.defined()) {
    stream_->start(fixed ? 0 : epoch, fixed ? 0 : first_step);
  }
}

// Its tensors' memory is the current stream's, which may use it anew at once.
void TrainingBatches::drop() {
  if (ahead_) {
    ahead_->arrived.hold_current();
    ahead_.reset();
  }
}

TrainingBatches::Sent TrainingBatches::send() {
  const datasets::Batch* const batch = batches_.next(*stream_);
  COMBA_CHECK(batch != nullptr, "fetching a training batch: the epoch has ended early");
  const int64_t side = config_.model.image_size, channels = config_.model.in_channels;
  PlacedPixels uploaded;
  side_.run([&] { uploaded = upload(*batch); });
  batches_.hold([copied = std::make_shared<vision::StreamMark>(side_.mark())] { copied->wait(); });
  // Memory of the current stream, whose earlier work may still use what lay there before.
  Sent sent{
      at::empty({batch->size, channels, side, side}, at::TensorOptions(device_).dtype(at::kFloat)),
      at::empty({batch->size}, at::TensorOptions(device_).dtype(at::kLong)),
      batch->indices,
      {}};
  side_.follow_current();
  side_.run([&] { finish(sent, uploaded, *batch); });
  sent.arrived = side_.mark();
  return sent;
}

PlacedPixels TrainingBatches::upload(const datasets::Batch& batch) const {
  const at::Tensor host =
      batch.placed.empty()
          ? pixels_of(batch, config_.model.image_size, config_.model.in_channels)
          : at::from_blob(const_cast<uint8_t*>(batch.pixels.data()), {batch.used}, at::kByte);
  return decode_encoded(host.to(device_, /*non_blocking=*/true), batch, decode_, *stream_,
                        config_.data.on_bad != "fail");
}

void TrainingBatches::finish(Sent& sent, const PlacedPixels& uploaded,
                             const datasets::Batch& batch) {
  // Host memory that LibTorch page-locked lives on until its copy is done.
  const at::Tensor labels = at::empty(
      {batch.size}, at::TensorOptions().dtype(at::kLong).pinned_memory(device_.is_cuda()));
  std::copy(batch.labels.begin(), batch.labels.end(), labels.mutable_data_ptr<int64_t>());
  sent.labels.copy_(labels, /*non_blocking=*/true);
  normalise(uploaded.images.empty()
                ? uploaded.pixels
                : kernels::image::augment_images(augment_inputs(uploaded.pixels, uploaded.images)),
            batch, sent.images);
}

void TrainingBatches::normalise(const at::Tensor& pixels, const datasets::Batch& batch,
                                at::Tensor& images) const {
  std::vector<datasets::SampleKey> keys;
  for (size_t i = 0; i < batch.indices.size(); ++i) {
    keys.push_back({static_cast<uint64_t>(config_.seed), epoch_, batch.indices[i], batch.views[i]});
  }
  if (!device_.is_cuda()) {
    normalise_.write(pixels, images);
    erase_(images, config_.erase, keys);
    return;
  }
  kernels::image::NormaliseInputs inputs;  // the same bits in one launch
  inputs.pixels = pixels;
  inputs.scale = normalise_.scale();
  inputs.shift = normalise_.shift();
  add_erasing(inputs, config_.erase, keys);
  images.copy_(kernels::image::normalise_images(inputs));
}

TrainingBatches::Sent TrainingBatches::take() {
  if (ahead_) {
    return *std::exchange(ahead_, std::nullopt);
  }
  return send();
}

TrainingBatch TrainingBatches::next() {
  const bool fixed = config_.data.synthetic_fixed_batch;
  if (!fixed || !images_.defined()) {
    const Sent sent = take();
    sent.arrived.hold_current();
    images_ = sent.images;
    labels_ = sent.labels;
    indices_ = sent.indices;
    // Without waiting for the loader: what there is to do with this batch comes first.
    if (device_.is_cuda() && !fixed && stream_->ready()) {
      ahead_ = send();
    }
  }
  const int64_t step = step_++;
  if (!config_.mix.on(epoch_)) {
    return {images_, labels_, {}};
  }
  const int64_t share = images_.size(0), ranks = config_.ranks;
  COMBA_CHECK(share * ranks == config_.train.batch_size && (ranks == 1 || share % kMixGroup == 0),
              "mixing training images: each of {} ranks has {} of the {} images of "
              "train.batch_size, expected all images together, and of each rank a multiple of {}, "
              "as an image and its partner belong to one: take batches of a multiple of {}, or set "
              "data.mixup = 0 and data.cutmix = 0",
              ranks, share, config_.train.batch_size, kMixGroup, kMixGroup * ranks);
  const auto all = draw_mixes(config_.mix, share * ranks, images_.size(2),
                              static_cast<uint64_t>(config_.seed), epoch_, step);
  const auto first = all.begin() + share * config_.rank;
  const std::vector<Mix> mixes(first, first + share);
  return {mix_images(images_, mixes), labels_, mixes};
}

std::vector<std::string> TrainingBatches::names() const {
  std::vector<std::string> names;
  for (const int64_t index : indices_) {
    names.push_back(stream_->name(index));
  }
  return names;
}

vision::Metrics TrainingBatches::stage_seconds() const {
  const datasets::LoaderTimes times = stream_->times();
  if (times.threads == 0) {
    return {};
  }
  const auto threads = static_cast<double>(times.threads);
  return {{"read", times.read / threads},
          {"decode", times.decode / threads},
          {"full", times.full / threads},
          {"copy", batches_.reader_seconds()},
          {"ready", times.ready / datasets::Loader::kBatchesAhead}};
}

}  // namespace comba::classify
