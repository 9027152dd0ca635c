// Where the task's batches come from: a loader over images, or made up on the spot.
#pragma once

#include "classify/config.h"
#include "datasets/loader.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace comba::classify {

// Epochs of batches; batch (epoch, i) depends on nothing but the configuration, epoch and i.
class BatchStream {
 public:
  virtual ~BatchStream() = default;
  virtual int64_t batches_per_epoch() const = 0;
  virtual int64_t size() const = 0;  // images
  virtual void start(int64_t epoch, int64_t first_batch) = 0;
  // Exchanges the memory of `batch` for the next one's; false at the end of the epoch.
  virtual bool next(datasets::Batch& batch) = 0;
  virtual bool ready() const = 0;  // next() has a batch without waiting for others
  virtual datasets::LoaderTimes times() const { return {}; }
  virtual const std::vector<std::string>& classes() const = 0;
  virtual std::string fingerprint() const = 0;
  virtual std::string name(int64_t index) const = 0;  // of a sample, for messages and captions
};

enum class Purpose { training, evaluation };

// Opens data.train or data.eval; the pixels will lie in `memory`. With `plans` files are decoded only, see
// datasets::LoaderOptions. Throws Error naming the path, and where it was looked
// for, if it is absent.
std::unique_ptr<BatchStream> open_stream(const RunConfig& config, Purpose purpose,
                                         const datasets::BatchMemory& memory = nullptr,
                                         bool plans = false);
// A stream over images that are open already.
std::unique_ptr<BatchStream> stream_of(std::shared_ptr<const datasets::ImageSource> source,
                                       const datasets::LoaderOptions& options);

}  // namespace comba::classify
