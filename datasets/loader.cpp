#include "datasets/loader.h"

#include "datasets/decode.h"
#include "datasets/sampler.h"
#include "datasets/transform.h"
#include "vision/base/error.h"
#include "vision/base/log.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <mutex>
#include <set>
#include <thread>

#include <opencv2/core/utility.hpp>

namespace comba::datasets {
namespace {
constexpr int64_t kPrefetch = 3;  // batches under way or waiting
}

// Threads take one sample at a time from the batches [consumed, consumed + kPrefetch) in order; a batch lives in
// slot (number % kPrefetch). One mutex guards all bookkeeping; decoding runs outside it.
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
    const int64_t cores = std::max<int64_t>(1, std::thread::hardware_concurrency());
    const int64_t count = options_.threads > 0 ? options_.threads : cores;
    for (int64_t i = 0; i < count; ++i) {
      threads_.emplace_back([this] { work(); });
    }
  }

  ~Impl() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) {
      thread.join();
    }
  }

  int64_t batches_per_epoch() const {
    const int64_t size = source_->size(), batch = options_.batch_size;
    return options_.training ? size / batch : (size + batch - 1) / batch;
  }

  void start(int64_t epoch, int64_t first_batch) {
    std::unique_lock lock(mutex_);
    running_ = false;
    idle_.wait(lock, [&] { return active_ == 0; });
    epoch_ = epoch;
    consumed_ = next_batch_ = first_batch;
    next_item_ = 0;
    failure_ = nullptr;
    order_ =
        std::make_unique<Permutation>(source_->size(), options_.seed, static_cast<uint64_t>(epoch));
    for (Slot& slot : slots_) {
      slot.number = -1;
    }
    running_ = true;
    lock.unlock();
    wake_.notify_all();
  }

  bool next(Batch& batch) {
    while (next_whole(batch)) {
      drop_absent(batch);
      if (batch.size > 0) {
        return true;
      }
    }
    return false;
  }

  int64_t bad_samples() const {
    const std::lock_guard lock(mutex_);
    return static_cast<int64_t>(bad_.size());
  }

 private:
  static constexpr int64_t kAbsent = -1;  // in place of an index

  struct Slot {
    int64_t number = -1;  // of the batch in it
    int64_t left = 0;     // samples not yet written
    Batch batch;
  };
  struct Item {
    Slot* slot;
    int64_t place;     // in the batch
    int64_t position;  // in the epoch's order
  };

  // The next batch as the workers left it.
  bool next_whole(Batch& batch) {
    std::unique_lock lock(mutex_);
    COMBA_CHECK(order_ != nullptr, "loading images: next() before start()");
    if (consumed_ >= batches_per_epoch()) {
      return false;
    }
    Slot& slot = slots_[consumed_ % kPrefetch];
    ready_.wait(lock, [&] { return failure_ || (slot.number == consumed_ && slot.left == 0); });
    if (failure_) {
      std::rethrow_exception(failure_);
    }
    std::swap(batch, slot.batch);
    slot.number = -1;
    ++consumed_;
    lock.unlock();
    wake_.notify_all();
    return true;
  }

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

  bool has_work() const {
    return running_ && !failure_ && next_batch_ < batches_per_epoch() &&
           next_batch_ < consumed_ + kPrefetch;
  }

  int64_t size_of(int64_t batch) const {
    return std::min(options_.batch_size, source_->size() - batch * options_.batch_size);
  }

  // Needs the lock.
  Item take() {
    Slot& slot = slots_[next_batch_ % kPrefetch];
    if (next_item_ == 0) {
      open_slot(slot);
    }
    const Item item{&slot, next_item_, next_batch_ * options_.batch_size + next_item_};
    if (++next_item_ == slot.batch.size) {
      ++next_batch_;
      next_item_ = 0;
    }
    return item;
  }

  void open_slot(Slot& slot) {
    const TransformOptions& t = options_.transform;
    Batch& batch = slot.batch;
    slot.number = next_batch_;
    batch.size = slot.left = size_of(next_batch_);
    batch.pixels.resize(static_cast<size_t>(batch.size * t.image_size * t.image_size * t.channels));
    batch.labels.resize(batch.size);
    batch.indices.resize(batch.size);
  }

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return stop_ || has_work(); });
      if (stop_) {
        return;
      }
      const Item item = take();
      ++active_;
      lock.unlock();
      std::exception_ptr failure;
      try {
        fill(item);
      } catch (...) {
        failure = std::current_exception();
      }
      lock.lock();
      --active_;
      --item.slot->left;
      if (failure && !failure_) {
        failure_ = failure;
      }
      if (item.slot->left == 0 || failure_) {
        ready_.notify_all();
      }
      if (active_ == 0) {
        idle_.notify_all();
      }
    }
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
          item.slot->batch.indices[item.place] = kAbsent;
          return;
        }
      }
    }
  }

  Image load(int64_t index) const {
    const EncodedSample sample = source_->read(index);
    const TransformOptions& t = options_.transform;
    const Image image = decode_image(sample.bytes, static_cast<int>(t.channels), sample.name);
    return options_.training ? transform_for_training(image, t, options_.seed, epoch_, index)
                             : transform_for_evaluation(image, t);
  }

  Image grey() const {
    const TransformOptions& t = options_.transform;
    const auto side = static_cast<int>(t.image_size);
    return {
        side, side, static_cast<int>(t.channels),
        std::vector<uint8_t>(static_cast<size_t>(t.image_size * t.image_size * t.channels), 128)};
  }

  void write(const Item& item, int64_t index, const Image& image) const {
    Batch& batch = item.slot->batch;
    std::memcpy(batch.pixels.data() + item.place * image.pixels.size(), image.pixels.data(),
                image.pixels.size());
    batch.labels[item.place] = source_->label(index);
    batch.indices[item.place] = index;
  }

  void note_bad(int64_t index, const Error& error) {
    const std::lock_guard lock(mutex_);
    if (bad_.insert(index).second) {
      log::warning("bad sample {}: {}", bad_.size(), error.what());
    }
    COMBA_CHECK(static_cast<int64_t>(bad_.size()) <= options_.max_bad,
                "loading images: {} bad samples, more than data.max_bad = {}; the last: {}",
                bad_.size(), options_.max_bad, error.what());
  }

  const std::shared_ptr<const ImageSource> source_;
  const LoaderOptions options_;
  mutable std::mutex mutex_;
  std::condition_variable wake_, ready_, idle_;
  std::unique_ptr<Permutation> order_;
  Slot slots_[kPrefetch];
  int64_t epoch_ = 0, consumed_ = 0, next_batch_ = 0, next_item_ = 0, active_ = 0;
  bool running_ = false, stop_ = false;
  std::exception_ptr failure_;
  std::set<int64_t> bad_;
  std::vector<std::thread> threads_;
};

Loader::Loader(std::shared_ptr<const ImageSource> source, LoaderOptions options)
    : impl_(std::make_unique<Impl>(std::move(source), std::move(options))) {}
Loader::~Loader() = default;
int64_t Loader::batches_per_epoch() const { return impl_->batches_per_epoch(); }
void Loader::start(int64_t epoch, int64_t first_batch) { impl_->start(epoch, first_batch); }
bool Loader::next(Batch& batch) { return impl_->next(batch); }
int64_t Loader::bad_samples() const { return impl_->bad_samples(); }

}  // namespace comba::datasets
