#include "classify/stream.h"

#include "datasets/source.h"
#include "vision/base/error.h"
#include "vision/base/random.h"

#include <algorithm>
#include <filesystem>
#include <utility>

namespace comba::classify {
namespace {

class LoaderStream final : public BatchStream {
 public:
  LoaderStream(std::shared_ptr<const datasets::ImageSource> source,
               const datasets::LoaderOptions& options)
      : source_(std::move(source)), loader_(source_, options) {}
  int64_t batches_per_epoch() const override { return loader_.batches_per_epoch(); }
  int64_t size() const override { return source_->size(); }
  void start(int64_t epoch, int64_t first_batch) override { loader_.start(epoch, first_batch); }
  bool next(datasets::Batch& batch) override { return loader_.next(batch); }
  bool ready() const override { return loader_.ready(); }
  datasets::LoaderTimes times() const override { return loader_.times(); }
  const std::vector<std::string>& classes() const override { return source_->classes(); }
  std::string fingerprint() const override { return source_->fingerprint(); }
  std::string name(int64_t index) const override { return source_->name(index); }

 private:
  std::shared_ptr<const datasets::ImageSource> source_;
  datasets::Loader loader_;
};

// Every class is a coarse random colour pattern; every image is its class's pattern plus noise. Learnable,
// and a pure function of (seed, epoch, batch).
class SyntheticStream final : public BatchStream {
 public:
  SyntheticStream(const RunConfig& config, Purpose purpose, datasets::BatchMemory memory)
      : memory_(std::move(memory)),
        seed_(static_cast<uint64_t>(config.seed)),
        batch_size_(config.train.batch_size),
        image_size_(config.model.image_size),
        channels_(config.model.in_channels),
        training_(purpose == Purpose::training),
        size_(training_ ? config.data.synthetic_size
                        : std::max<int64_t>(config.data.synthetic_size / 10, 1)),
        rank_(config.rank),
        ranks_(config.ranks) {
    const int64_t classes = config.classes > 0 ? config.classes : kDefaultClasses;
    for (int64_t c = 0; c < classes; ++c) {
      classes_.push_back(fmt::format("synthetic{:04d}", c));
      RandomStream draw(seed_, 0, static_cast<uint64_t>(c), RandomPurpose::initialise);
      std::vector<uint8_t> pattern(static_cast<size_t>(kGrid * kGrid * channels_));
      std::generate(pattern.begin(), pattern.end(),
                    [&] { return static_cast<uint8_t>(draw.below(256)); });
      patterns_.push_back(std::move(pattern));
    }
  }

  int64_t batches_per_epoch() const override {
    const int64_t mine = share(size_, rank_ + 1) - share(size_, rank_), most = most_at_once();
    return training_ ? size_ / batch_size_ : (mine + most - 1) / most;
  }
  int64_t size() const override { return size_; }
  void start(int64_t epoch, int64_t first_batch) override {
    epoch_ = epoch;
    batch_ = first_batch;
  }
  bool ready() const override { return batch_ < batches_per_epoch(); }
  bool next(datasets::Batch& batch) override {
    if (!ready()) {
      return false;
    }
    const int64_t number = batch_++;
    const int64_t first = training_ ? number * batch_size_ + share(batch_size_, rank_)
                                    : share(size_, rank_) + number * most_at_once();
    const int64_t end = training_ ? number * batch_size_ + share(batch_size_, rank_ + 1)
                                  : std::min(first + most_at_once(), share(size_, rank_ + 1));
    const int64_t bytes = image_size_ * image_size_ * channels_;
    datasets::make_room(batch, end - first, end - first, bytes, memory_);
    std::fill(batch.views.begin(), batch.views.end(), 0);
    for (int64_t i = 0; i < batch.size; ++i) {
      batch.indices[static_cast<size_t>(i)] = first + i;
      batch.labels[static_cast<size_t>(i)] = paint(first + i, batch.pixels.data() + i * bytes);
    }
    return true;
  }
  const std::vector<std::string>& classes() const override { return classes_; }
  std::string fingerprint() const override {
    return fmt::format("synthetic-{}-{}-{}", seed_, size_, classes_.size());
  }
  std::string name(int64_t index) const override { return fmt::format("synthetic[{}]", index); }

 private:
  static constexpr int64_t kGrid = 8;
  static constexpr int64_t kDefaultClasses = 10;

  // Where the share of a rank of `count` things begins, as the loader has it.
  int64_t share(int64_t count, int64_t rank) const { return count * rank / ranks_; }
  int64_t most_at_once() const { return batch_size_ / ranks_; }

  // Fills one image and returns its label.
  int64_t paint(int64_t index, uint8_t* pixels) const {
    // Evaluation images come from an epoch that training never reaches.
    const uint64_t epoch = training_ ? static_cast<uint64_t>(epoch_) : (uint64_t{1} << 40);
    RandomStream draw(seed_, epoch, static_cast<uint64_t>(index), RandomPurpose::crop);
    const int64_t label = draw.below(static_cast<int64_t>(classes_.size()));
    const std::vector<uint8_t>& pattern = patterns_[static_cast<size_t>(label)];
    uint32_t noise = draw.next() | 1U;
    for (int64_t y = 0; y < image_size_; ++y) {
      for (int64_t x = 0; x < image_size_; ++x) {
        const int64_t cell =
            (y * kGrid / image_size_ * kGrid + x * kGrid / image_size_) * channels_;
        for (int64_t c = 0; c < channels_; ++c) {
          noise ^= noise << 13;  // xorshift32 (Marsaglia 2003): cheap, and only texture
          noise ^= noise >> 17;
          noise ^= noise << 5;
          *pixels++ =
              static_cast<uint8_t>((pattern[static_cast<size_t>(cell + c)] + (noise >> 24)) / 2);
        }
      }
    }
    return label;
  }

  datasets::BatchMemory memory_;
  uint64_t seed_;
  int64_t batch_size_, image_size_, channels_;
  bool training_;
  int64_t size_, rank_, ranks_;
  int64_t epoch_ = 0, batch_ = 0;
  std::vector<std::string> classes_;
  std::vector<std::vector<uint8_t>> patterns_;  // [class][kGrid * kGrid * channels]
};

}  // namespace

std::unique_ptr<BatchStream> stream_of(std::shared_ptr<const datasets::ImageSource> source,
                                       const datasets::LoaderOptions& options) {
  return std::make_unique<LoaderStream>(std::move(source), options);
}

std::unique_ptr<BatchStream> open_stream(const RunConfig& config, Purpose purpose,
                                         const datasets::BatchMemory& memory, bool plans) {
  const bool training = purpose == Purpose::training;
  const bool own_place = !training && !config.data.eval.empty();
  const std::string& path = own_place ? config.data.eval : config.data.train;
  const char* key = own_place ? "data.eval" : "data.train";
  if (path.empty()) {
    throw UsageError(
        fmt::format("opening the {} images: {} is not set; name a pack or a folder of class "
                    "folders, e.g. --set {}=DIR",
                    training ? "training" : "evaluation", key, key));
  }
  if (path == "synthetic") {
    return std::make_unique<SyntheticStream>(config, purpose, memory);
  }
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored) && path.find('{') == std::string::npos) {
    throw UsageError(
        fmt::format("opening the {} images: {} = \"{}\" does not exist (a relative path is looked "
                    "for from the working directory and from the config file's folder)",
                    training ? "training" : "evaluation", key, path));
  }
  const bool borrowed = !training && !own_place;
  if (borrowed && (config.data.eval_split == config.data.train_split ||
                   !std::filesystem::is_directory(path, ignored))) {
    throw UsageError(
        fmt::format("opening the evaluation images: data.eval is not set, and data.train = \"{}\" "
                    "has no other part than that for training; name held-out images, e.g. --set "
                    "data.eval=DIR, or a split of a folder with several, --set data.eval_split=val",
                    path));
  }
  std::shared_ptr<const datasets::ImageSource> source =
      datasets::open_images(path, training ? config.data.train_split : config.data.eval_split);
  datasets::LoaderOptions options;
  options.transform = config.transform;
  options.batch_size = config.train.batch_size;
  options.rank = config.rank;
  options.world = config.ranks;
  options.training = training;
  options.repeats = config.data.repeats;
  options.seed = static_cast<uint64_t>(config.seed);
  options.threads = config.data.threads;
  options.on_bad = config.data.on_bad;
  options.max_bad = config.data.max_bad;
  options.memory = memory;
  options.plans = plans;
  options.gpu_share = plans ? config.data.nvjpeg_share : 0.0;
  return stream_of(std::move(source), options);
}

}  // namespace comba::classify
