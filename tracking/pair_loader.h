// Batches of training pairs, made by worker threads. The content of batch (epoch, i) depends on nothing but the options, the
// sets, epoch and i.
#pragma once

#include "datasets/ordered_batches.h"
#include "tracking/training_pair.h"
#include "vision/base/error.h"

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace comba::tracking {

struct PairLoaderOptions {
  CropOptions crops;
  int64_t templates = 1;
  int64_t batch_size = 128, samples = 60000;  // of an epoch
  uint64_t seed = 0;
  int64_t threads = 0;  // 0: one per core
  std::string on_bad =
      "fail";  // an image that cannot be read: fail | skip (another sample takes its place)
  int64_t max_bad = 100;
  bool last_short = false;  // keep the batch that is not full
  // Whose share of the batches it makes, or with last_short of all samples: as datasets::LoaderOptions has it.
  int64_t rank = 0, ranks = 1;
};

struct PairBatch {
  int64_t size = 0;
  std::vector<uint8_t> templates;  // [size, templates, template_size, template_size, 3]
  std::vector<uint8_t> search;     // [size, search_size, search_size, 3]
  std::vector<float> targets;  // [size, 4] left, top, width, height in shares of the search crop
  std::vector<std::string> names;  // [size] video, template frames and search frame, counted from 0
};

class PairLoader {
 public:
  PairLoader(std::shared_ptr<const PairSampler> sampler, const PairLoaderOptions& options);
  int64_t batches_per_epoch() const;
  void start(int64_t epoch, int64_t first_batch);
  bool next(PairBatch& batch);

 private:
  int64_t share(int64_t count, int64_t rank) const { return count * rank / options_.ranks; }
  int64_t first_of(int64_t number) const;  // sample of a batch
  int64_t open(int64_t number, PairBatch& batch) const;
  void fill(int64_t number, int64_t place, PairBatch& batch);
  TrainingPair make(int64_t index);
  void note_bad(const Error& error);

  std::shared_ptr<const PairSampler> sampler_;
  PairLoaderOptions options_;
  int64_t epoch_ = 0;
  std::mutex bad_mutex_;
  std::set<std::string> bad_;
  std::optional<datasets::OrderedBatches<PairBatch>> batches_;  // last: its threads use the rest
};

}  // namespace comba::tracking
