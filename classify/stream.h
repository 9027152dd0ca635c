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
  virtual bool next(datasets::Batch& batch) = 0;
  virtual const std::vector<std::string>& classes() const = 0;
  virtual std::string fingerprint() const = 0;
  virtual std::string name(int64_t index) const = 0;  // of a sample, for messages and captions
};

enum class Purpose { training, evaluation };

// Opens data.train or data.eval. Throws Error naming the path, and where it was looked for, if it is absent.
std::unique_ptr<BatchStream> open_stream(const RunConfig& config, Purpose purpose);

}  // namespace comba::classify
