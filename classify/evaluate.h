// Accuracy of a classifier over a stream of images.
#pragma once

#include "classify/classifier.h"
#include "classify/config.h"
#include "classify/stream.h"
#include "datasets/image.h"
#include "vision/engine/distributed.h"
#include "vision/nn/normaliser.h"

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace comba::classify {

using vision::Normaliser;

// The pixels of a batch as a tensor that borrows its memory: [N, S, S, C] uint8.
at::Tensor pixels_of(const datasets::Batch& batch, int64_t image_size, int64_t channels);
at::Tensor labels_of(const datasets::Batch& batch);  // [N] int64, borrowed

// One evaluated image kept for the report.
struct Example {
  datasets::Image image;
  int64_t label = 0, prediction = 0;
  double probability = 0.0;  // of the prediction
  std::string name;
};

struct Evaluation {
  int64_t count = 0;
  double loss = 0.0;                       // mean cross entropy, no smoothing
  double top1 = 0.0, top5 = 0.0;           // per cent
  std::vector<int64_t> confusion;          // [classes, classes], row: label, column: prediction
  std::vector<Example> correct, mistakes;  // the first few of each

  int64_t classes() const;
  int64_t count_of(int64_t label) const;
  double accuracy_of(int64_t label) const;  // per cent; NaN for a class without images
};

// Counts hits batch by batch.
class Scorer {
 public:
  explicit Scorer(int64_t classes);
  // logits: [N, classes] fp32, labels: [N] int64, both on one device. Returns predictions [N] on the CPU.
  at::Tensor add(const at::Tensor& logits, const at::Tensor& labels);
  // Adds what the scorers of all ranks have counted.
  void gather(vision::Ranks& ranks);
  Evaluation result() const;

 private:
  int64_t classes_, count_ = 0, top1_ = 0, top5_ = 0;
  double loss_ = 0.0;
  std::vector<int64_t> confusion_;
};

// Runs the model, in eval mode, over the whole stream; keeps the first `examples` right and wrong ones. On
// the CPU it computes in fp32 whatever train.precision says. Several ranks, each with its share of the images in its stream, get
// the figures of all images, each counted once; the examples are of the own share.
Evaluation evaluate(Classifier& model, BatchStream& stream, const RunConfig& config,
                    const c10::Device& device, int64_t examples, vision::Ranks* ranks = nullptr);

}  // namespace comba::classify
