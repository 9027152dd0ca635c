#include "datasets/loader.h"

#include "datasets/decode.h"
#include "datasets/gpu_share.h"
#include "datasets/jpeg.h"
#include "datasets/ordered_batches.h"
#include "datasets/sampler.h"
#include "datasets/transform.h"
#include "vision/base/error.h"
#include "vision/base/log.h"
#include "vision/base/stopwatch.h"

#include <algorithm>
#include <atomic>
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
    COMBA_CHECK(options_.rank >= 0 && options_.rank < options_.world &&
                    options_.world <= options_.batch_size,
                "loading images: rank {} of {} with batches of {}: expected a rank below their "
                "number, and an image in a batch for each",
                options_.rank, options_.world, options_.batch_size);
    COMBA_CHECK(
        (options_.training ? batches_per_epoch() : source_->size()) > 0,
        "loading images: {} training images do not fill a batch of {}; take smaller batches "
        "(train.batch_size)",
        source_->size(), options_.batch_size);
    COMBA_CHECK(options_.training || !options_.plans,
                "loading images: plans are made in training only");
    if (options_.training) {
      transform_.emplace(options_.transform);
    }
    cv::setNumThreads(1);  // our threads are the parallelism
    batches_.emplace(
        Batches::Work{
            .open = [this](int64_t number, Batch& batch) { return open(number, batch); },
            .fill = [this](int64_t number, int64_t place,
                           Batch& batch) { fill({&batch, place, span_of(number).first + place}); }},
        options_.threads);
  }

  int64_t batches_per_epoch() const {
    if (options_.training) {
      return source_->size() / options_.batch_size;
    }
    const Span part = slice(source_->size());
    return (part.end - part.first + evaluated_at_once() - 1) / evaluated_at_once();
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
      if (options_.plans) {
        batch.pixels.resize(static_cast<size_t>(batch.used));
        return true;
      }
      drop_absent(batch);
      if (batch.size > 0) {
        return true;
      }
    }
    return false;
  }

  bool ready() const { return batches_->ready() > 0; }

  LoaderTimes times() const {
    const auto t = batches_->times();
    return {.threads = t.threads,
            .read = read_seconds_,
            .decode = decode_seconds_,
            .full = t.full,
            .wait = t.wait,
            .batches = t.taken,
            .ready = t.ready};
  }

  int64_t bad_samples() const {
    const std::lock_guard lock(bad_mutex_);
    return static_cast<int64_t>(bad_.size());
  }

 private:
  static constexpr int64_t kAbsent = -1;  // in place of an index
  using Batches = OrderedBatches<Batch, kBatchesAhead>;

  struct Span {
    int64_t first, end;
  };

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
        batch.views[kept] = batch.views[i];
      }
      ++kept;
    }
    batch.size = kept;
    batch.pixels.resize(kept * bytes);
    batch.labels.resize(kept);
    batch.indices.resize(kept);
    batch.views.resize(kept);
  }

  // This rank's part of `count` things that come in order.
  Span slice(int64_t count) const {
    return {count * options_.rank / options_.world, count * (options_.rank + 1) / options_.world};
  }

  // What a batch holds of the epoch's order.
  Span span_of(int64_t number) const {
    if (options_.training) {
      const int64_t first = number * options_.batch_size;
      const Span part = slice(options_.batch_size);
      return {first + part.first, first + part.end};
    }
    const Span part = slice(source_->size());
    const int64_t first = part.first + number * evaluated_at_once();
    return {first, std::min(first + evaluated_at_once(), part.end)};
  }

  int64_t evaluated_at_once() const { return options_.batch_size / options_.world; }

  int64_t open(int64_t number, Batch& batch) const {
    const TransformOptions& t = options_.transform;
    const Span span = span_of(number), part = slice(options_.batch_size);
    const int64_t most = options_.training ? part.end - part.first : evaluated_at_once();
    const int64_t bytes = t.image_size * t.image_size * t.channels;
    if (options_.plans) {
      // Crops of images stored at 256 px have 0.8 times the bytes of 224 x 224 px on average, those of ImageNet's sizes 1.6
      // times. At 224 px and batches of 1,024 four blocks are under 1 GB.
      make_room_for_plans(batch, span.end - span.first, most, bytes * 8 / 5, bytes,
                          options_.memory);
    } else {
      make_room(batch, span.end - span.first, most, bytes, options_.memory);
    }
    return batch.size;
  }

  SampleKey key_at(int64_t position) const {
    const int64_t wrapped = position % source_->size();
    if (!options_.training) {
      return {options_.seed, epoch_, wrapped};
    }
    return {options_.seed, epoch_, (*order_)[wrapped / options_.repeats],
            wrapped % options_.repeats};
  }

  // The sample at this position, or by the policy a grey one, the next good one in order (training) or none.
  void fill(const Item& item) {
    for (int64_t attempt = 0;; ++attempt) {
      const SampleKey key = key_at(item.position + attempt);
      try {
        load(item, key);
        return;
      } catch (const Error& error) {
        if (options_.on_bad == "fail") {
          throw Error(fmt::format("{}; data.on_bad = \"skip\" or \"grey\" trains on without it",
                                  error.what()));
        }
        note_bad(key.index, error);
        if (options_.on_bad == "grey") {
          write(item, key, grey());
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

  void load(const Item& item, const SampleKey& key) {
    Stopwatch watch;
    const EncodedSample sample = source_->read(key.index);
    read_seconds_ += watch.seconds();
    watch.restart();
    if (leave_encoded(item, sample, key)) {
      decode_seconds_ += watch.seconds();
      return;
    }
    PreparedImage prepared = transform(sample, key);
    decode_seconds_ += watch.seconds();
    write(item, key, std::move(prepared));
  }

  // What a GPU may decode, whole: a file that ends as it should, of the usual kinds.
  bool leave_encoded(const Item& item, const EncodedSample& sample, const SampleKey& key) const {
    constexpr int64_t kMostPixels = int64_t{1} << 24;  // decoded they take the GPU's memory
    const std::span<const uint8_t> file = sample.bytes;
    if (!options_.plans || options_.transform.train_crop != "random_resized" ||
        !in_gpu_share(key.index, options_.gpu_share) || !is_jpeg(file) ||
        file[file.size() - 2] != 0xff || file[file.size() - 1] != 0xd9) {
      return false;
    }
    const JpegHeader header = jpeg_header(file, sample.name);
    if ((header.colours != JpegColours::ycbcr && header.colours != JpegColours::grey) ||
        header.progressive || header.arithmetic ||
        int64_t{header.height} * header.width > kMostPixels) {
      return false;
    }
    PlacedImage image = transform_->prepare(header.height, header.width, key);
    if (!add_encoded(*item.batch, file, image)) {
      return false;
    }
    item.batch->placed[item.place] = std::move(image);
    note(item, key);
    return true;
  }

  static PreparedImage finished(Image image) {
    const int height = image.height, width = image.width;
    return {{std::move(image), 0, 0, double(height), double(width)}, {height, width, false, {}}};
  }

  PreparedImage transform(const EncodedSample& sample, const SampleKey& key) const {
    const TransformOptions& t = options_.transform;
    if (transform_) {
      PreparedImage prepared = transform_->prepare(sample.bytes, sample.name, key);
      if (options_.plans) {
        return prepared;
      }
      Image image = carry_out(prepared);
      recycle(std::move(prepared.part.image));
      return finished(std::move(image));
    }
    Image whole = decode_image(sample.bytes, static_cast<int>(t.channels), sample.name);
    Image image = transform_for_evaluation(whole, t);
    recycle(std::move(whole));
    return finished(std::move(image));
  }

  PreparedImage grey() const {
    const TransformOptions& t = options_.transform;
    const auto side = static_cast<int>(t.image_size);
    return finished(
        {side, side, static_cast<int>(t.channels),
         std::vector<uint8_t>(static_cast<size_t>(t.image_size * t.image_size * t.channels), 128)});
  }

  void write(const Item& item, const SampleKey& key, PreparedImage prepared) const {
    Batch& batch = *item.batch;
    if (options_.plans) {
      batch.placed[item.place] = add_pixels(batch, std::move(prepared));
    } else {
      const std::vector<uint8_t>& pixels = prepared.part.image.pixels;
      std::memcpy(batch.pixels.data() + item.place * pixels.size(), pixels.data(), pixels.size());
    }
    note(item, key);
  }

  void note(const Item& item, const SampleKey& key) const {
    item.batch->labels[item.place] = source_->label(key.index);
    item.batch->indices[item.place] = key.index;
    item.batch->views[item.place] = key.view;
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
  std::optional<TrainingTransform> transform_;  // in training
  std::unique_ptr<Permutation> order_;
  int64_t epoch_ = 0;
  mutable std::mutex bad_mutex_;
  std::set<int64_t> bad_;
  std::atomic<double> read_seconds_ = 0.0, decode_seconds_ = 0.0;  // of all threads
  std::optional<Batches> batches_;                                 // last: its threads use the rest
};

Loader::Loader(std::shared_ptr<const ImageSource> source, LoaderOptions options)
    : impl_(std::make_unique<Impl>(std::move(source), std::move(options))) {}
Loader::~Loader() = default;
int64_t Loader::batches_per_epoch() const { return impl_->batches_per_epoch(); }
void Loader::start(int64_t epoch, int64_t first_batch) { impl_->start(epoch, first_batch); }
bool Loader::next(Batch& batch) { return impl_->next(batch); }
bool Loader::ready() const { return impl_->ready(); }
int64_t Loader::bad_samples() const { return impl_->bad_samples(); }
LoaderTimes Loader::times() const { return impl_->times(); }

}  // namespace comba::datasets
