// Training images as the network gets them: augmented, normalised, erased and mixed.
#pragma once

#include "classify/config.h"
#include "classify/encoded_images.h"
#include "classify/held_batches.h"
#include "classify/stream.h"
#include "datasets/contact_sheet.h"
#include "vision/engine/side_stream.h"
#include "vision/engine/task.h"
#include "vision/nn/normaliser.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace comba::classify {

struct TrainingBatch {
  at::Tensor images;       // [B, C, S, S] fp32 on the device
  at::Tensor labels;       // [B] int64 on the device, before mixing
  std::vector<Mix> mixes;  // [B], or empty: nothing is mixed
};

// The first `count` images, back to pixels, with what they are and, where mixed, the shares.
std::vector<datasets::SheetTile> pictures_of(const TrainingBatch& batch,
                                             const std::vector<std::string>& class_names,
                                             const DataOptions& data, int64_t count);

// Batch (epoch, step) depends on nothing but the configuration, epoch and step. On a GPU batches are copied, resized,
// augmented, normalised and erased on a stream of their own, where possible the next one while the device works on the last.
class TrainingBatches {
 public:
  // Opens data.train.
  TrainingBatches(const RunConfig& config, const c10::Device& device);
  // Of a stream that is open; for CUDA its pixels should lie in memory_for(device).
  // `decoder`: of images that the stream leaves encoded.
  TrainingBatches(const RunConfig& config, const c10::Device& device,
                  std::unique_ptr<BatchStream> stream, JpegDecoder decoder = nullptr);
  ~TrainingBatches() { drop(); }
  TrainingBatches(const TrainingBatches&) = delete;
  TrainingBatches& operator=(const TrainingBatches&) = delete;

  const BatchStream& stream() const { return *stream_; }
  void start(int64_t epoch, int64_t first_step);
  // Throws Error if the epoch has ended.
  TrainingBatch next();
  // What the images of the last batch are called.
  std::vector<std::string> names() const;
  // Spent on waiting for images to be loaded, so far.
  double wait_seconds() const { return batches_.stream_seconds(); }
  // By stage, each as if of one thread, and as "ready" how much of what may be made ahead lay ready; see vision::Task.
  vision::Metrics stage_seconds() const;

 private:
  // A batch that may still be on its way to the device.
  struct Sent {
    at::Tensor images, labels;
    std::vector<int64_t> indices;
    vision::StreamMark arrived;
  };
  Sent send();
  // On the side stream: the batch's images, or what they are to be made of, to the device, decoded; then to the network's
  // input.
  PlacedPixels upload(const datasets::Batch& batch) const;
  void finish(Sent& sent, const PlacedPixels& uploaded, const datasets::Batch& batch);
  // Normalises and erases; pixels [B, S, S, C] on the device.
  void normalise(const at::Tensor& pixels, const datasets::Batch& batch, at::Tensor& images) const;
  Sent take();
  void drop();  // what was sent ahead

  RunConfig config_;
  c10::Device device_;
  std::unique_ptr<BatchStream> stream_;
  JpegDecoder decode_;
  vision::Normaliser normalise_;
  vision::SideStream side_;
  HeldBatches batches_;
  std::optional<Sent> ahead_;
  at::Tensor images_, labels_;    // of the last batch, unmixed
  std::vector<int64_t> indices_;  // of it, in the stream
  int64_t epoch_ = 0, step_ = 0;  // step_: of the epoch, of the next batch
};

// Where the pixels of batches should lie for `device`: page-locked for a GPU.
datasets::BatchMemory memory_for(const c10::Device& device);

}  // namespace comba::classify
