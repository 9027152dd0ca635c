// Batches of decoded, augmented images, made by worker threads in a fixed order.
#pragma once

#include "datasets/batch.h"
#include "datasets/source.h"
#include "vision/base/config.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace comba::datasets {

// What happens to a decoded image before it enters a batch.
struct TransformOptions {
  int64_t image_size = 224;  // px, square
  int64_t channels = 3;      // 3 RGB, 1 grey
  std::string train_crop =
      "random_resized";  // random_resized (Inception style) | simple (DeiT III) | shift | center
  double crop_scale_min = 0.08;  // area share of random_resized
  double crop_ratio_min = 0.75;  // and its aspect, 3/4 .. 4/3
  int64_t shift = 2;             // px, for train_crop = "shift"
  double rotate = 0.0;           // degrees, uniform in +-rotate (training only)
  double zoom = 0.0;             // uniform scale in 1 +- zoom (training only)
  double flip = 0.5;             // probability of a horizontal flip (training only)
  std::string augment;           // see AugmentPolicy (training only)
  double jitter = 0.0;           // of brightness, contrast and colour (training only)
  double eval_crop = 0.875;      // centre crop share after the short side is resized
};

// Registers the keys under "data." in the table.
void declare(ConfigTable& table, TransformOptions& options);

struct LoaderOptions {
  TransformOptions transform;
  int64_t batch_size = 256;  // of all ranks together
  // Which part of the work is this loader's. In training a rank has the slice [r B / R, (r + 1) B / R) of every batch of
  // B; in evaluation that slice of all samples, in batches of B / R: so both are the same for any R.
  int64_t rank = 0, world = 1;
  bool training = false;  // shuffle, augment, drop the last short batch
  int64_t repeats = 1;    // views of an image that follow each other; an epoch stays as long
  uint64_t seed = 0;
  int64_t threads = 0;  // 0: one per core
  // fail | skip (in training the next sample in order takes the place, evaluation goes without) | grey
  std::string on_bad = "fail";
  int64_t max_bad = 100;  // stop after so many bad samples
  BatchMemory memory;     // of the pixels
  // Training images are decoded only: what is left to do is in Batch::placed, for a GPU (kernels/image/) or carry_out().
  bool plans = false;
  // With plans and random resized crops, of the images: JPEGs that a GPU may take are left as they are, see in_gpu_share()
  // and PlacedImage::encoded.
  double gpu_share = 0.0;
};

// What the loader has spent its time on so far, seconds.
struct LoaderTimes {
  int64_t threads = 0;
  // Of the threads, summed over them; what is missing are the ends of epochs and bookkeeping.
  double read = 0.0;    // encoded images, with their checksums
  double decode = 0.0;  // decoding, cropping, augmenting
  double full = 0.0;    // waiting, as all batches that may be ahead are made
  // Of the caller of next().
  double wait = 0.0;    // for a batch that was not made yet
  int64_t batches = 0;  // that it took
  double ready =
      0.0;  // how long batches lay ready for it, summed over them, of which kBatchesAhead may
};

// Iterates over one epoch at a time. The content of batch (epoch, i) depends on nothing but the options,
// the source, epoch and i: any number of threads, any start position, the same bytes. next() exchanges the memory of the
// caller's batch for that of the next one, so that kBatchesAhead blocks and the callers' own go round for good.
class Loader {
 public:
  static constexpr int64_t kBatchesAhead = 3;  // made or being made

  Loader(std::shared_ptr<const ImageSource> source, LoaderOptions options);
  ~Loader();
  int64_t batches_per_epoch() const;
  // Starts an epoch at the given batch; drops what was prefetched.
  void start(int64_t epoch, int64_t first_batch = 0);
  // The next batch of the epoch; false at its end. Errors of the workers are thrown here.
  bool next(Batch& batch);
  // Whether next() has a batch without waiting; false at the end of the epoch.
  bool ready() const;
  int64_t bad_samples() const;
  LoaderTimes times() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace comba::datasets
