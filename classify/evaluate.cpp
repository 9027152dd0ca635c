#include "classify/evaluate.h"

#include "vision/base/error.h"
#include "vision/engine/precision.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/topk.h>

namespace comba::classify {
namespace {

void keep_examples(Evaluation& into, const datasets::Batch& batch, const BatchStream& stream,
                   const RunConfig& config, const at::Tensor& logits, const at::Tensor& predictions,
                   int64_t wanted) {
  const auto full = [&](const std::vector<Example>& list) {
    return static_cast<int64_t>(list.size()) >= wanted;
  };
  if (full(into.correct) && full(into.mistakes)) {
    return;
  }
  const at::Tensor probabilities = logits.softmax(1).cpu();
  const int64_t side = config.model.image_size;
  const auto bytes = static_cast<size_t>(side * side * config.model.in_channels);
  for (int64_t i = 0; i < batch.size; ++i) {
    const auto at = static_cast<size_t>(i);
    const int64_t prediction = predictions[i].item<int64_t>();
    std::vector<Example>& list = prediction == batch.labels[at] ? into.correct : into.mistakes;
    if (full(list)) {
      continue;
    }
    Example example;
    example.image.height = example.image.width = static_cast<int>(side);
    example.image.channels = static_cast<int>(config.model.in_channels);
    const uint8_t* pixels = batch.pixels.data() + at * bytes;
    example.image.pixels.assign(pixels, pixels + bytes);
    example.label = batch.labels[at];
    example.prediction = prediction;
    example.probability = probabilities[i][prediction].item<double>();
    example.name = stream.name(batch.indices[at]);
    list.push_back(std::move(example));
  }
}

}  // namespace

at::Tensor pixels_of(const datasets::Batch& batch, int64_t image_size, int64_t channels) {
  const auto expected = static_cast<size_t>(batch.size * image_size * image_size * channels);
  COMBA_CHECK(batch.pixels.size() == expected,
              "taking a batch of {} images: expected {} bytes, got {}", batch.size, expected,
              batch.pixels.size());
  return at::from_blob(const_cast<uint8_t*>(batch.pixels.data()),
                       {batch.size, image_size, image_size, channels}, at::kByte);
}

at::Tensor labels_of(const datasets::Batch& batch) {
  return at::from_blob(const_cast<int64_t*>(batch.labels.data()), {batch.size}, at::kLong);
}

int64_t Evaluation::classes() const {
  return std::llround(std::sqrt(static_cast<double>(confusion.size())));
}

int64_t Evaluation::count_of(int64_t label) const {
  const auto row = confusion.begin() + label * classes();
  return std::accumulate(row, row + classes(), int64_t{0});
}

double Evaluation::accuracy_of(int64_t label) const {
  const int64_t images = count_of(label);
  if (images == 0) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  const int64_t right = confusion[static_cast<size_t>(label * classes() + label)];
  return 100.0 * static_cast<double>(right) / static_cast<double>(images);
}

Scorer::Scorer(int64_t classes)
    : classes_(classes), confusion_(static_cast<size_t>(classes * classes), 0) {}

at::Tensor Scorer::add(const at::Tensor& logits, const at::Tensor& labels) {
  loss_ += at::cross_entropy_loss(logits, labels, {}, at::Reduction::Sum).item<double>();
  const int64_t k = std::min<int64_t>(5, classes_);
  const at::Tensor best = std::get<1>(at::topk(logits, k, 1));  // [N, k]
  top5_ += best.eq(labels.unsqueeze(1)).sum().item<int64_t>();
  const at::Tensor predictions = best.select(1, 0).cpu().contiguous();
  const at::Tensor truth = labels.cpu().contiguous();
  const int64_t* predicted = predictions.const_data_ptr<int64_t>();
  const int64_t* expected = truth.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < truth.size(0); ++i) {
    top1_ += predicted[i] == expected[i] ? 1 : 0;
    ++confusion_[static_cast<size_t>(expected[i] * classes_ + predicted[i])];
  }
  count_ += truth.size(0);
  return predictions;
}

void Scorer::gather(vision::Ranks& ranks) {
  std::vector<double> counts = {loss_, static_cast<double>(count_), static_cast<double>(top1_),
                                static_cast<double>(top5_)};
  counts.insert(counts.end(), confusion_.begin(), confusion_.end());
  const std::vector<double> sums = ranks.sum(counts);  // whole numbers below 2^53 stay whole
  loss_ = sums[0];
  count_ = std::llround(sums[1]);
  top1_ = std::llround(sums[2]);
  top5_ = std::llround(sums[3]);
  std::transform(sums.begin() + 4, sums.end(), confusion_.begin(),
                 [](double count) { return std::llround(count); });
}

Evaluation Scorer::result() const {
  COMBA_CHECK(count_ > 0, "evaluating: the data has no images");
  const auto images = static_cast<double>(count_);
  Evaluation evaluation;
  evaluation.count = count_;
  evaluation.loss = loss_ / images;
  evaluation.top1 = 100.0 * static_cast<double>(top1_) / images;
  evaluation.top5 = 100.0 * static_cast<double>(top5_) / images;
  evaluation.confusion = confusion_;
  return evaluation;
}

Evaluation evaluate(Classifier& model, BatchStream& stream, const RunConfig& config,
                    const c10::Device& device, int64_t examples, vision::Ranks* ranks) {
  const at::NoGradGuard no_grad;
  model->eval();
  const vision::Precision precision = device.is_cuda()
                                          ? vision::choose_precision(config.train.precision, device)
                                          : vision::Precision::fp32;
  const Normaliser normalise(config.data.mean, config.data.std, device);
  const auto classes = static_cast<int64_t>(stream.classes().size());
  COMBA_CHECK(classes <= model->classes(), "evaluating: the data has {} classes, the model only {}",
              classes, model->classes());
  Scorer scorer(model->classes());
  Evaluation kept;
  datasets::Batch batch;
  stream.start(0, 0);
  while (stream.next(batch)) {
    const at::Tensor images =
        normalise(pixels_of(batch, config.model.image_size, config.model.in_channels));
    at::Tensor logits;
    {
      const vision::AutocastScope autocast(precision);
      logits = model->forward(images);
    }
    logits = logits.to(at::kFloat);
    const at::Tensor predictions = scorer.add(logits, labels_of(batch).to(device));
    keep_examples(kept, batch, stream, config, logits, predictions, examples);
  }
  if (ranks != nullptr) {
    scorer.gather(*ranks);
  }
  Evaluation evaluation = scorer.result();
  evaluation.correct = std::move(kept.correct);
  evaluation.mistakes = std::move(kept.mistakes);
  return evaluation;
}

}  // namespace comba::classify
