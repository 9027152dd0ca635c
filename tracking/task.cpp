#include "tracking/task.h"

#include "datasets/decode.h"
#include "tracking/bundle.h"
#include "vision/base/error.h"
#include "vision/base/log.h"
#include "vision/base/stopwatch.h"
#include "vision/engine/precision.h"
#include "vision/engine/report.h"

#include <algorithm>
#include <thread>

#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/from_blob.h>

namespace comba::tracking {
namespace {

constexpr int64_t kPictures = 24;

at::Tensor borrowed(std::vector<uint8_t>& pixels, at::IntArrayRef shape) {
  return at::from_blob(pixels.data(), shape, at::kByte);
}

// One pixel wide, in the colour (r, g, b).
void draw_box(datasets::Image& image, const Box& box, const std::array<uint8_t, 3>& colour) {
  const auto put = [&](int x, int y) {
    if (x >= 0 && y >= 0 && x < image.width && y < image.height) {
      std::copy(colour.begin(), colour.end(), image.row(y) + x * 3);
    }
  };
  const auto left = static_cast<int>(box.x), top = static_cast<int>(box.y),
             right = static_cast<int>(box.x + box.w), bottom = static_cast<int>(box.y + box.h);
  for (int x = std::max(left, 0); x <= std::min(right, image.width - 1); ++x) {
    put(x, top);
    put(x, bottom);
  }
  for (int y = std::max(top, 0); y <= std::min(bottom, image.height - 1); ++y) {
    put(left, y);
    put(right, y);
  }
}

// With a GPU two cores are left to the threads that feed it.
int64_t loader_threads(int64_t wanted, const c10::Device& device) {
  const int64_t cores = std::thread::hardware_concurrency();
  return wanted > 0 || !device.is_cuda() ? wanted : std::max<int64_t>(1, cores - 2);
}

// Sums over all pairs, so that means do not depend on how pairs were cut into batches and among ranks.
struct EvaluationSums {
  enum { kFocal, kHits, kGiou, kL1, kIou, kPairs, kCount };
  std::vector<double> values = std::vector<double>(kCount, 0.0);

  void add(const TrackingLoss& loss, int64_t pairs) {
    const auto count = static_cast<double>(pairs), hits = loss.hits.item<double>();
    values[kFocal] += loss.focal.item<double>() * std::max(hits, 1.0);
    values[kHits] += hits;
    values[kGiou] += loss.giou.item<double>() * count;
    values[kL1] += loss.l1.item<double>() * count;
    values[kIou] += loss.iou.item<double>() * count;
    values[kPairs] += count;
  }
  vision::Metrics metrics(const TrackingLossWeights& weights) const {
    const double focal = values[kFocal] / std::max(values[kHits], 1.0);
    const auto mean = [&](int of) { return values[of] / values[kPairs]; };
    const double giou = mean(kGiou), l1 = mean(kL1);
    return {{"loss", weights.focal * focal + weights.giou * giou + weights.l1 * l1},
            {"focal", focal},
            {"giou", giou},
            {"l1", l1},
            {"iou", mean(kIou)}};
  }
};

}  // namespace

TrackTask::TrackTask(const TrackConfig& config, const c10::Device& device,
                     std::shared_ptr<vision::Ranks> ranks)
    : config_(config),
      device_(device),
      ranks_(std::move(ranks)),
      normalise_(config.data.mean, config.data.std, device) {
  if (config_.data.train.empty() || config_.data.eval.empty()) {
    throw UsageError(
        "configuration: data.train and data.eval are empty; give videos, e.g. --set "
        "'data.train=[\"got10k:DIR/train\"]' (comba data synth makes some)");
  }
  train_ = open(config_.data.train, config_.data.ratios, true);
  eval_ = open(config_.data.eval, std::vector<double>(config_.data.eval.size(), 1.0), false);
  at::manual_seed(static_cast<uint64_t>(config.seed));
  network_ = Network(config_.network);
  if (!config_.init.empty()) {
    const vision::KeyDiff diff =
        taking("model.init", [&] { return load_backbone(network_, config_.init); });
    if (ranks_->first()) {
      vision::log_key_diff(diff, config_.init);
    }
  }
  network_->to(device);
}

std::unique_ptr<PairLoader> TrackTask::open(const std::vector<std::string>& names,
                                            const std::vector<double>& ratios, bool training) {
  const TrackDataOptions& data = config_.data;
  std::vector<TrainingSet> sets;
  for (const std::string& name : names) {
    sets.push_back(read_training_set(name, data.skip_known_bad, static_cast<int>(data.threads)));
    const TrainingSet& set = sets.back();
    log::info("{} on {} videos of {}{}", training ? "training" : "evaluating", set.videos.size(),
              set.name,
              set.left_out > 0
                  ? fmt::format(" ({} left out: too short or known to be wrong)", set.left_out)
                  : "");
  }
  if (training) {
    fingerprint_ = fingerprint(sets);
  }
  const auto sampler = std::make_shared<PairSampler>(std::move(sets), ratios,
                                                     static_cast<int>(config_.network.templates));
  return std::make_unique<PairLoader>(
      sampler, PairLoaderOptions{.crops = data.crops,
                                 .templates = config_.network.templates,
                                 .batch_size = config_.train.batch_size,
                                 .samples = training ? data.samples : data.eval_samples,
                                 .seed = static_cast<uint64_t>(config_.seed),
                                 .threads = loader_threads(data.threads, device_),
                                 .on_bad = data.on_bad,
                                 .max_bad = data.max_bad,
                                 .last_short = !training,
                                 .rank = ranks_->rank(),
                                 .ranks = ranks_->size()});
}

void TrackTask::start_epoch(int64_t epoch, int64_t first_step) { train_->start(epoch, first_step); }

double TrackTask::lr_scale(const std::string& parameter) const {
  return parameter.starts_with("backbone.") ? config_.backbone_lr : 1.0;
}

std::vector<torch::Tensor> TrackTask::on_device(PairBatch& batch) const {
  const int64_t templates = config_.network.templates, small = config_.network.template_size,
                large = config_.network.backbone.image_size;
  const at::Tensor targets =
      normalise_(borrowed(batch.templates, {batch.size * templates, small, small, 3}))
          .unflatten(0, {batch.size, templates});
  const at::Tensor search = normalise_(borrowed(batch.search, {batch.size, large, large, 3}));
  at::Tensor truth = at::from_blob(batch.targets.data(), {batch.size, 4}, at::kFloat);
  // From pinned memory the copy does not wait for the work before it.
  truth = device_.is_cuda() ? truth.pin_memory().to(device_, /*non_blocking=*/true) : truth.clone();
  return {targets, search, truth};
}

std::vector<torch::Tensor> TrackTask::next_batch() {
  const Stopwatch watch;
  COMBA_CHECK(train_->next(batch_), "fetching a training batch: the epoch has ended early");
  data_wait_ += watch.seconds();
  return on_device(batch_);
}

torch::Tensor TrackTask::loss(const std::vector<torch::Tensor>& batch) {
  return tracking_loss(network_->forward(batch[0], batch[1]), batch[2], config_.loss).total;
}

vision::Metrics TrackTask::evaluate() {
  const at::NoGradGuard no_grad;
  const vision::AutocastScope autocast(
      vision::choose_precision(device_.is_cuda() ? config_.train.precision : "fp32", device_));
  const bool was_training = network_->is_training();
  network_->eval();
  pictures_.clear();
  eval_->start(0, 0);
  EvaluationSums sums;
  PairBatch batch;
  while (eval_->next(batch)) {
    const std::vector<torch::Tensor> tensors = on_device(batch);
    const CenterMaps maps = network_->forward(tensors[0], tensors[1]);
    if (static_cast<int64_t>(pictures_.size()) < kPictures) {
      keep_picture(batch, decode(maps).boxes.to(at::kCPU, at::kDouble));
    }
    const TrackingLoss loss = tracking_loss(maps, tensors[2], config_.loss);
    sums.add(loss, batch.size);
  }
  sums.values = ranks_->sum(sums.values);
  network_->train(was_training);
  return sums.metrics(config_.loss);
}

std::map<std::string, std::string> TrackTask::weights_metadata() const {
  return make_metadata(config_);
}

// The search crops with the true box (green) and the network's (red).
void TrackTask::keep_picture(const PairBatch& batch, const at::Tensor& boxes) {
  const auto side = static_cast<int>(config_.network.backbone.image_size);
  const auto bytes = static_cast<size_t>(side) * side * 3;
  for (int64_t n = 0; n < batch.size && static_cast<int64_t>(pictures_.size()) < kPictures; ++n) {
    datasets::Image image{side, side, 3, {}};
    const uint8_t* const from = batch.search.data() + static_cast<size_t>(n) * bytes;
    image.pixels.assign(from, from + bytes);
    const float* const t = batch.targets.data() + n * 4;
    const double* const b = boxes[n].const_data_ptr<double>();
    draw_box(image, {t[0] * side, t[1] * side, t[2] * side, t[3] * side}, {40, 220, 40});
    draw_box(image, {(b[0] - b[2] / 2) * side, (b[1] - b[3] / 2) * side, b[2] * side, b[3] * side},
             {240, 40, 40});
    pictures_.emplace_back(fmt::format("pair {}", pictures_.size() + 1),
                           datasets::encode_png(image));
  }
}

std::vector<std::pair<std::string, std::string>> TrackTask::report_sections() {
  std::vector<vision::GridImage> images;
  for (const auto& [caption, png] : pictures_) {
    images.push_back({png, caption, true});
  }
  return {{"Held-out search crops: truth green, network red", vision::image_grid_html(images)}};
}

}  // namespace comba::tracking
