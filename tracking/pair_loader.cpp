#include "tracking/pair_loader.h"

#include "vision/base/error.h"
#include "vision/base/log.h"

#include <cstring>

namespace comba::tracking {
namespace {

constexpr int kMostDraws = 1000;  // of a sample

}  // namespace

PairLoader::PairLoader(std::shared_ptr<const PairSampler> sampler, const PairLoaderOptions& options)
    : sampler_(std::move(sampler)), options_(options) {
  COMBA_CHECK(options_.batch_size >= options_.ranks,
              "loading training pairs: batches of {} for {} ranks: expected a pair for each; take "
              "larger batches (train.batch_size)",
              options_.batch_size, options_.ranks);
  COMBA_CHECK(
      batches_per_epoch() > 0 || (options_.last_short && options_.samples > 0),
      "loading training pairs: {} samples an epoch do not fill a batch of {}; take smaller batches "
      "(train.batch_size) or more samples (data.samples)",
      options_.samples, options_.batch_size);
  batches_.emplace(
      datasets::OrderedBatches<PairBatch>::Work{
          .open = [this](int64_t number, PairBatch& batch) { return open(number, batch); },
          .fill = [this](int64_t number, int64_t place,
                         PairBatch& batch) { fill(number, place, batch); }},
      options_.threads);
}

int64_t PairLoader::batches_per_epoch() const {
  if (!options_.last_short) {
    return options_.samples / options_.batch_size;
  }
  const int64_t most = options_.batch_size / options_.ranks;
  return (share(options_.samples, options_.rank + 1) - first_of(0) + most - 1) / most;
}

int64_t PairLoader::first_of(int64_t number) const {
  if (!options_.last_short) {
    return number * options_.batch_size + share(options_.batch_size, options_.rank);
  }
  return share(options_.samples, options_.rank) + number * (options_.batch_size / options_.ranks);
}

void PairLoader::start(int64_t epoch, int64_t first_batch) {
  batches_->start(first_batch, batches_per_epoch(), [&] { epoch_ = epoch; });
}

bool PairLoader::next(PairBatch& batch) { return batches_->next(batch); }

int64_t PairLoader::open(int64_t number, PairBatch& batch) const {
  const CropOptions& crops = options_.crops;
  batch.size = options_.batch_size / options_.ranks;
  if (options_.last_short) {
    batch.size =
        std::min(batch.size, share(options_.samples, options_.rank + 1) - first_of(number));
  }
  batch.templates.resize(static_cast<size_t>(batch.size * options_.templates * crops.template_size *
                                             crops.template_size * 3));
  batch.search.resize(static_cast<size_t>(batch.size * crops.search_size * crops.search_size * 3));
  batch.targets.resize(static_cast<size_t>(batch.size * 4));
  batch.names.resize(static_cast<size_t>(batch.size));
  return batch.size;
}

void PairLoader::fill(int64_t number, int64_t place, PairBatch& batch) {
  const TrainingPair pair = make(first_of(number) + place);
  batch.names[static_cast<size_t>(place)] = pair.name;
  uint8_t* to = batch.templates.data() + static_cast<size_t>(place) * batch.templates.size() /
                                             static_cast<size_t>(batch.size);
  for (const datasets::Image& image : pair.templates) {
    std::memcpy(to, image.pixels.data(), image.pixels.size());
    to += image.pixels.size();
  }
  std::memcpy(batch.search.data() + static_cast<size_t>(place) * pair.search.pixels.size(),
              pair.search.pixels.data(), pair.search.pixels.size());
  const double target[] = {pair.target.x, pair.target.y, pair.target.w, pair.target.h};
  std::copy(target, target + 4, batch.targets.begin() + place * 4);
}

// Draws until a sample has crops that show something.
TrainingPair PairLoader::make(int64_t index) {
  RandomStream random(options_.seed, static_cast<uint64_t>(epoch_), static_cast<uint64_t>(index),
                      RandomPurpose::pair);
  for (int attempt = 0; attempt < kMostDraws; ++attempt) {
    const PairDraw draw = sampler_->draw(random);
    try {
      if (auto pair = make_pair(draw, read_frames(draw), options_.crops, random)) {
        return std::move(*pair);
      }
    } catch (const Error& error) {
      note_bad(error);
    }
  }
  throw Error(
      fmt::format("loading training pairs: {} draws in a row gave no crop that shows the "
                  "image; are the boxes of these videos right?",
                  kMostDraws));
}

void PairLoader::note_bad(const Error& error) {
  if (options_.on_bad == "fail") {
    throw Error(fmt::format("{}; data.on_bad = \"skip\" trains on without it", error.what()));
  }
  const std::lock_guard lock(bad_mutex_);
  if (bad_.insert(error.what()).second) {
    log::warning("bad sample {}: {}", bad_.size(), error.what());
  }
  COMBA_CHECK(static_cast<int64_t>(bad_.size()) <= options_.max_bad,
              "loading training pairs: {} images cannot be read, more than data.max_bad = {}; the "
              "last: {}",
              bad_.size(), options_.max_bad, error.what());
}

}  // namespace comba::tracking
