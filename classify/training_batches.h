// Training images as the network gets them: augmented, normalised, erased and mixed.
#pragma once

#include "classify/config.h"
#include "classify/stream.h"
#include "datasets/contact_sheet.h"
#include "vision/nn/normaliser.h"

#include <cstdint>
#include <memory>
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

// Batch (epoch, step) depends on nothing but the configuration, epoch and step.
class TrainingBatches {
 public:
  // Opens data.train.
  TrainingBatches(const RunConfig& config, const c10::Device& device);
  const BatchStream& stream() const { return *stream_; }
  void start(int64_t epoch, int64_t first_step);
  // Throws Error if the epoch has ended.
  TrainingBatch next();
  double wait_seconds() const { return wait_; }  // for images to be loaded, in all

 private:
  void fetch();  // the next images and labels, unless one batch is trained on over and over

  RunConfig config_;
  c10::Device device_;
  std::unique_ptr<BatchStream> stream_;
  vision::Normaliser normalise_;
  datasets::Batch batch_;
  at::Tensor images_, labels_;    // of the last batch, unmixed
  int64_t epoch_ = 0, step_ = 0;  // step_: of the epoch, of the next batch
  double wait_ = 0.0;
};

}  // namespace comba::classify
