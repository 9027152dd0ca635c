#include "datasets/loader.h"

#include "datasets/decode.h"
#include "datasets/ordered_batches.h"
#include "datasets/sampler.h"
#include "datasets/transform.h"
#include "vision/base/error.h"
#include "vision/base/log.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <optional>
#include <set>

#include <opencv2/core/utility.hpp>

namespace comba::datasets {

class Loader::Impl {
 public:
  Impl(std::shared_ptr<const ImageSource> source, LoaderOptions options)
      : source_(std::move(source)), options_(std::move(options)) {
    COMBA_CHECK(options_.batch_size > 0, "loading images: batch size {}: expected at least 1",
                options_.batch_size);
    COMBA_CHECK(batches_per_epoch() > 0,
                "loading images: {} training images do not fill a batch of {}", source_->size(),
                options_.batch_size);
    cv::setNumThreads(1);  // our threads are the parallelism
    batches_.emplace(
        OrderedBatches<Batch>::Work{
            .open = [this](int64_t number, Batch& batch) { return open(number, batch); },
            .fill =
                [this](int64_t number, int64_t place, Batch& batch) {
                  fill({&batch, place, number * options_.batch_size + place});
                }},
        options_.threads);
  }

  int64_t batches_per_epoch() const {
    const int64_t size = source_->size(), batch = options_.batch_size;
    return options_.training ? size / batch : (size + batch - 1) / batch;
  }

  void start(int64_t epoch, int64_t first_batch) {
    batches_->start(first_batch, batches_per_epoch(), [&] {
      epoch_ = epoch;
      order_ = std::make_unique<Permutation>(source_->size(), options_.seed,
                                             static_cast<uint64_t>(epoch));
    });
  }

  bool next(Batch& batch) {
    COMBA_CHECK(order_ != nullptr, "loading images: next() before start()");
    while (batches_->next(batch)) {
      drop_absent(batch);
      if (batch.size > 0) {
        return true;
      }
    }
    return false;
  }

  int64_t bad_samples() const {
    const std::lock_guard lock(bad_mutex_);
    return static_cast<int64_t>(bad_.size());
  }

 private:
  static constexpr int64_t kAbsent = -1;  // in place of an index

  struct Item {
    Batch* batch;
    int64_t place;     // in the batch
    int64_t position;  // in the epoch's order
  };

  // Takes out the samples that evaluation goes without.
  static void drop_absent(Batch& batch) {
    const size_t bytes = batch.size == 0 ? 0 : batch.pixels.size() / batch.size;
    int64_t kept = 0;
    for (int64_t i = 0; i < batch.size; ++i) {
      if (batch.indices[i] == kAbsent) {
        continue;
      }
      if (kept < i) {
        std::memcpy(batch.pixels.data() + kept * bytes, batch.pixels.data() + i * bytes, bytes);
        batch.labels[kept] = batch.labels[i];
        batch.indices[kept] = batch.indices[i];
      }
      ++kept;
    }
    batch.size = kept;
    batch.pixels.resize(kept * bytes);
    batch.labels.resize(kept);
    batch.indices.resize(kept);
  }

  int64_t open(int64_t number, Batch& batch) const {
    const TransformOptions& t = options_.transform;
    batch.size = std::min(options_.batch_size, source_->size() - number * options_.batch_size);
    batch.pixels.resize(static_cast<size_t>(batch.size * t.image_size * t.image_size * t.channels));
    batch.labels.resize(batch.size);
    batch.indices.resize(batch.size);
    return batch.size;
  }

  int64_t index_at(int64_t position) const {
    const int64_t wrapped = position % source_->size();
    return options_.training ? (*order_)[wrapped] : wrapped;
  }

  // The sample at this position, or by the policy a grey one, the next good one in order (training) or none.
  void fill(const Item& item) {
    for (int64_t attempt = 0;; ++attempt) {
      const int64_t index = index_at(item.position + attempt);
      try {
        write(item, index, load(index));
        return;
      } catch (const Error& error) {
        if (options_.on_bad == "fail") {
          throw Error(fmt::format("{}; data.on_bad = \"skip\" or \"grey\" trains on without it",
                                  error.what()));
        }
        note_bad(index, error);
        if (options_.on_bad == "grey") {
          write(item, index, grey());
          return;
        }
        COMBA_CHECK(bad_samples() < source_->size(), "loading images: no image could be read");
        if (!options_.training) {
          item.batch->indices[item.place] = kAbsent;
          return;
        }
      }
    }
  }

  Image load(int64_t index) const {
    const EncodedSample sample = source_->read(index);
    const TransformOptions& t = options_.transform;
    if (options_.training) {
      return decode_for_training(sample.bytes, sample.name, t, options_.seed, epoch_, index);
    }
    return transform_for_evaluation(
        decode_image(sample.bytes, static_cast<int>(t.channels), sample.name), t);
  }

  Image grey() const {
    const TransformOptions& t = options_.transform;
    const auto side = static_cast<int>(t.image_size);
    return {
        side, side, static_cast<int>(t.channels),
        std::vector<uint8_t>(static_cast<size_t>(t.image_size * t.image_size * t.channels), 128)};
  }

  void write(const Item& item, int64_t index, const Image& image) const {
    Batch& batch = *item.batch;
    std::memcpy(batch.pixels.data() + item.place * image.pixels.size(), image.pixels.data(),
                image.pixels.size());
    batch.labels[item.place] = source_->label(index);
    batch.indices[item.place] = index;
  }

  void note_bad(int64_t index, const Error& error) {
    const std::lock_guard lock(bad_mutex_);
    if (bad_.insert(index).second) {
      log::warning("bad sample {}: {}", bad_.size(), error.what());
    }
    COMBA_CHECK(static_cast<int64_t>(bad_.size()) <= options_.max_bad,
                "loading images: {} bad samples, more than data.max_bad = {}; the last: {}",
                bad_.size(), options_.max_bad, error.what());
  }

  const std::shared_ptr<const ImageSource> source_;
  const LoaderOptions options_;
  std::unique_ptr<Permutation> order_;
  int64_t epoch_ = 0;
  mutable std::mutex bad_mutex_;
  std::set<int64_t> bad_;
  std::optional<OrderedBatches<Batch>> batches_;  // last: its threads use the rest
};

Loader::Loader(std::shared_ptr<const ImageSource> source, LoaderOptions options)
    : impl_(std::make_unique<Impl>(std::move(source), std::move(options))) {}
Loader::~Loader() = default;
int64_t Loader::batches_per_epoch() const { return impl_->batches_per_epoch(); }
void Loader::start(int64_t epoch, int64_t first_batch) { impl_->start(epoch, first_batch); }
bool Loader::next(Batch& batch) { return impl_->next(batch); }
int64_t Loader::bad_samples() const { return impl_->bad_samples(); }

}  // namespace comba::datasets
