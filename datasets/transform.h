// An encoded image -> a square network input, for training (random, keyed) or evaluation.
#pragma once

#include "datasets/decode.h"
#include "datasets/loader.h"

namespace comba::datasets {

// Every draw is a function of (seed, epoch, index). Returns [image_size, image_size, channels]; throws as decode_image().
Image decode_for_training(std::span<const uint8_t> bytes, const std::string& name,
                          const TransformOptions& options, uint64_t seed, int64_t epoch,
                          int64_t index);

// The same of an image that is decoded already, from its full size.
Image transform_for_training(const Image& image, const TransformOptions& options, uint64_t seed,
                             int64_t epoch, int64_t index);

// Short side to image_size / eval_crop, then the centre: torchvision's Resize (bicubic) and CenterCrop on Pillow.
Image transform_for_evaluation(const Image& image, const TransformOptions& options);

// The box of an Inception-style crop: area share in [scale_min, 1], aspect log-uniform in [ratio_min,
// 1 / ratio_min], ten tries, then the centre (torchvision's RandomResizedCrop).
ImageBox random_resized_box(int height, int width, const TransformOptions& options, uint64_t seed,
                            int64_t epoch, int64_t index);

}  // namespace comba::datasets
