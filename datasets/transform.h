// An encoded image -> a square network input, for training (random, keyed) or evaluation.
#pragma once

#include "datasets/augment.h"
#include "datasets/decode.h"
#include "datasets/image_plan.h"
#include "datasets/loader.h"
#include "datasets/sample_key.h"

namespace comba::datasets {

// Training's transform, whose options are read but once. Every draw is a function of the key.
class TrainingTransform {
 public:
  // Throws UsageError for an augmentation that is not understood, or cannot be done to grey images.
  explicit TrainingTransform(TransformOptions options);

  // The pixels that are needed and what becomes of them; throws as decode_image(). Random resized crops are left to
  // whoever carries out the plan, all others are done.
  PreparedImage prepare(std::span<const uint8_t> bytes, const std::string& name,
                        const SampleKey& key) const;
  // The same of an image that is decoded already, from its full size.
  PreparedImage prepare(const Image& image, const SampleKey& key) const;
  // The same of an image of this size that others decode, whole, without its place; for random resized crops.
  PlacedImage prepare(int height, int width, const SampleKey& key) const;
  // prepare(), carried out: [image_size, image_size, channels].
  Image decode(std::span<const uint8_t> bytes, const std::string& name, const SampleKey& key) const;
  Image operator()(const Image& image, const SampleKey& key) const;

 private:
  BoxChoice box_of(const SampleKey& key) const;
  PreparedImage plan(DecodedPart part, const SampleKey& key) const;
  ImagePlan draw_plan(RandomStream& random) const;

  TransformOptions options_;
  AugmentPolicy policy_;
};

// Short side to image_size / eval_crop, then the centre: torchvision's Resize (bicubic) and CenterCrop on Pillow.
Image transform_for_evaluation(const Image& image, const TransformOptions& options);

// The box of an Inception-style crop: area share in [scale_min, 1], aspect log-uniform in [ratio_min,
// 1 / ratio_min], ten tries, then the centre (torchvision's RandomResizedCrop).
ImageBox random_resized_box(int height, int width, const TransformOptions& options,
                            const SampleKey& key);

}  // namespace comba::datasets
