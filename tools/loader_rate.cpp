#include "tools/loader_rate.h"

#include "classify/training_batches.h"
#include "vision/base/stopwatch.h"
#include "vision/engine/pinned_memory.h"

#include <algorithm>
#include <functional>
#include <map>
#include <memory_resource>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include <ATen/ops/sum.h>
#include <fmt/format.h>

namespace comba::tools {
namespace {

datasets::LoaderOptions options_of(const LoaderWork& work, const datasets::ImageSource& source) {
  datasets::LoaderOptions options;
  options.transform = work.transform;
  options.batch_size = std::min(work.batch_size, source.size());
  options.training = true;
  options.threads = work.threads;
  options.on_bad = "grey";
  options.max_bad = source.size();
  options.memory = work.memory ? work.memory : classify::memory_for(work.device);
  options.plans = work.device.is_cuda() && work.transform.channels == 3;
  options.gpu_share = options.plans ? work.nvjpeg_share : 0.0;
  return options;
}

double quantile(std::vector<double>& values, double share) {
  const auto place = static_cast<ptrdiff_t>(share * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + place, values.end());
  return values[static_cast<size_t>(place)];
}

// `next` gives the number of images in the next batch; `end` waits for those under way.
LoaderRate measure(double seconds, const std::function<int64_t()>& next,
                   const std::function<void()>& end) {
  next();  // threads are running
  std::vector<double> waits;
  int64_t images = 0;
  const Stopwatch watch;
  do {
    const Stopwatch wait;
    images += next();
    waits.push_back(wait.seconds());
  } while (watch.seconds() < seconds);
  end();
  return {.images_per_second = static_cast<double>(images) / watch.seconds(),
          .wait_p50 = quantile(waits, 0.5),
          .wait_p99 = quantile(waits, 0.99)};
}

// What the threads did in the `seconds` since they began.
void add_shares(LoaderRate& rate, const datasets::LoaderTimes& times, double seconds) {
  const double all = seconds * static_cast<double>(times.threads);
  rate.read = times.read / all;
  rate.decode = times.decode / all;
  rate.full = times.full / all;
  rate.ready = times.ready / seconds / datasets::Loader::kBatchesAhead;
  rate.pinned_bytes = vision::pinned_bytes();
}

// Keeps what is given back for who asks next for as much.
class KeptMemory final : public std::pmr::memory_resource {
 public:
  explicit KeptMemory(datasets::BatchMemory source) : source_(std::move(source)) {}
  ~KeptMemory() override {
    for (const auto& [bytes, block] : kept_) {
      source_->deallocate(block, bytes);
    }
  }

 private:
  void* do_allocate(size_t bytes, size_t alignment) override {
    const std::lock_guard lock(mutex_);
    const auto found = kept_.find(bytes);
    return found == kept_.end() ? source_->allocate(bytes, alignment)
                                : kept_.extract(found).mapped();
  }
  void do_deallocate(void* block, size_t bytes, size_t) override {
    const std::lock_guard lock(mutex_);
    kept_.emplace(bytes, block);
  }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
    return this == &other;
  }

  datasets::BatchMemory source_;
  std::mutex mutex_;
  std::multimap<size_t, void*> kept_;
};

LoaderRate rate_on_host(const std::shared_ptr<const datasets::ImageSource>& source,
                        const LoaderWork& work, double seconds) {
  datasets::Loader loader(source, options_of(work, *source));
  datasets::Batch batch;
  int64_t epoch = 0;
  const Stopwatch watch;
  loader.start(epoch);
  LoaderRate rate = measure(
      seconds,
      [&] {
        while (!loader.next(batch)) {
          loader.start(++epoch);
        }
        return batch.size;
      },
      [] {});
  const datasets::LoaderTimes times = loader.times();
  add_shares(rate, times, watch.seconds());
  return rate;
}

// nvJPEG's, which counts in `decoded` what it does; null where nothing is left to it.
classify::JpegDecoder counted_decoder(const LoaderWork& work, int64_t& decoded) {
  if (work.nvjpeg_share == 0) {
    return nullptr;
  }
  return [&decoded, decode = classify::nvjpeg_decoder(
                        work.device, fmt::format("--nvjpeg-share {}", work.nvjpeg_share))](
             const std::vector<std::span<const uint8_t>>& files) {
    kernels::DecodedJpegs out = decode(files);
    decoded += std::ranges::count_if(
        out.images, [](const kernels::DecodedJpeg& image) { return image.decoded; });
    return out;
  };
}

LoaderRate rate_on_device(const std::shared_ptr<const datasets::ImageSource>& source,
                          const LoaderWork& work, double seconds) {
  classify::RunConfig config;
  config.transform = work.transform;
  config.model.image_size = work.transform.image_size;
  config.model.in_channels = work.transform.channels;
  config.erase.probability = 0.25;  // with mixup and CutMix what DeiT does
  config.mix.mixup = 0.8;
  config.mix.cutmix = 1.0;
  const datasets::LoaderOptions options = options_of(work, *source);
  config.data.on_bad = options.on_bad;
  config.train.batch_size = options.batch_size;
  int64_t decoded = 0;
  classify::TrainingBatches batches(config, work.device, classify::stream_of(source, options),
                                    counted_decoder(work, decoded));
  at::Tensor last;
  int64_t epoch = 0, left = batches.stream().batches_per_epoch();
  const Stopwatch watch;
  batches.start(epoch, 0);
  LoaderRate rate = measure(
      seconds,
      [&] {
        if (left == 0) {
          batches.start(++epoch, 0);
          left = batches.stream().batches_per_epoch();
        }
        --left;
        last = batches.next().images;
        return last.size(0);
      },
      [&] { last.sum().cpu(); });
  const datasets::LoaderTimes times = batches.stream().times();
  add_shares(rate, times, watch.seconds());
  rate.nvjpeg =
      static_cast<double>(decoded) / static_cast<double>(times.batches * options.batch_size);
  return rate;
}

}  // namespace

datasets::BatchMemory kept_memory_for(const c10::Device& device) {
  const datasets::BatchMemory memory = classify::memory_for(device);
  return memory ? std::make_shared<KeptMemory>(memory) : nullptr;
}

LoaderRate loader_rate(const std::shared_ptr<const datasets::ImageSource>& source,
                       const LoaderWork& work, double seconds) {
  return work.device.is_cuda() ? rate_on_device(source, work, seconds)
                               : rate_on_host(source, work, seconds);
}

}  // namespace comba::tools
