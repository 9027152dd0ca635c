// The centre head for inference: normalisations folded into the convolutions, the three branches beside each other on CUDA.
#pragma once

#include "tracking/head.h"

#include <vector>

#include <ATen/core/Tensor.h>

namespace comba::tracking {

// Columns of the prepared head's rows, before sigmoids: each branch has two, of which the score uses one.
constexpr int64_t kBranchColumns = 2;
constexpr int64_t kScoreColumn = 0, kOffsetColumn = 2, kSizeColumn = 4, kHeadColumns = 6;

class PreparedHead {
 public:
  PreparedHead(const CenterHead& head, const at::TensorOptions& options);
  // features [B, F F, channels] -> [B, F F, kHeadColumns]
  at::Tensor operator()(const at::Tensor& features) const;

 private:
  struct Convolution {
    at::Tensor weight, bias;
  };
  struct Branch {
    std::vector<Convolution> convolutions;  // 3 x 3, each followed by a ReLU
    at::Tensor weight, bias;                // [channels, outputs], [outputs]
    int64_t column;
  };
  static Branch make_branch(const torch::nn::Module& branch, int64_t column,
                            const at::TensorOptions& options);
  std::vector<Branch> branches_;
};

// In shares of the search crop.
struct Answer {
  double center_x = 0, center_y = 0, width = 0, height = 0;
  double score = 0;  // of the chosen cell, before the window, in (0, 1)
};

// As decode() of the maps (tracking/head.h). rows: [F F, kHeadColumns] fp32 on the CPU, window [F, F] likewise.
Answer read_answer(const float* rows, const float* window, int64_t cells);

}  // namespace comba::tracking
