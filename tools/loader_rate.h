// How fast batches for training are made.
#pragma once

#include "datasets/loader.h"

#include <cstdint>
#include <memory>

#include <c10/core/Device.h>

namespace comba::tools {

struct LoaderWork {
  datasets::TransformOptions transform;
  int64_t batch_size = 128, threads = 1;
  c10::Device device = c10::kCPU;  // CUDA: batches are copied there and normalised, as in training
  datasets::BatchMemory memory;    // of the batches, as of kept_memory_for(); null: their own
  double nvjpeg_share = 0.0;       // of the images that the GPU decodes, on CUDA
};

struct LoaderRate {
  double images_per_second = 0.0;
  double wait_p50 = 0.0, wait_p99 = 0.0;        // s, that a batch was waited for
  double read = 0.0, decode = 0.0, full = 0.0;  // shares of the threads' time, see LoaderTimes
  double ready = 0.0;                           // of the batches ahead, that lay made
  double nvjpeg = 0.0;                          // share of the images that nvJPEG decoded
  int64_t pinned_bytes = 0;                     // of page-locked host memory
};

// Where batches for `device` lie, kept from one measurement to the next: training locks pages once, at its start, and a
// measurement that did so would be of that too. The first does.
datasets::BatchMemory kept_memory_for(const c10::Device& device);

// Measured for about `seconds`; bad images count as grey ones.
LoaderRate loader_rate(const std::shared_ptr<const datasets::ImageSource>& source,
                       const LoaderWork& work, double seconds);

}  // namespace comba::tools
