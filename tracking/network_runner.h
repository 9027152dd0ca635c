// A tracker's network as it is used frame by frame: pixels in, boxes out. On CUDA it is captured in a graph, one for each
// number of objects, with its matrices in bf16.
#pragma once

#include "tracking/bundle.h"
#include "vision/nn/normaliser.h"

#include <map>
#include <memory>

namespace comba::tracking {

// In shares of the search crop.
struct Answer {
  double center_x = 0, center_y = 0, width = 0, height = 0;
  double score = 0;  // of the chosen cell, before the window, in (0, 1)
};

class NetworkRunner {
 public:
  NetworkRunner(const TrackerBundle& bundle, const c10::Device& device);
  ~NetworkRunner();
  NetworkRunner(const NetworkRunner&) = delete;
  NetworkRunner& operator=(const NetworkRunner&) = delete;

  // templates: [N, n, S_t, S_t, 3] uint8 on the CPU. Kept until the next call.
  void set_templates(const at::Tensor& templates);
  // search: [N, S, S, 3] uint8 on the CPU, N as in set_templates().
  std::vector<Answer> run(const at::Tensor& search);

 private:
  struct Captured;
  at::Tensor forward(const at::Tensor& templates, const at::Tensor& search) const;
  Captured& captured(int64_t objects);

  mutable Network network_;
  c10::Device device_;
  vision::Normaliser normalise_;
  at::Tensor window_;     // [F, F]
  at::Tensor templates_;  // [N, n, 3, S_t, S_t], normalised
  std::map<int64_t, std::unique_ptr<Captured>> graphs_;
};

}  // namespace comba::tracking
