// How parameters follow their gradients: one step of an optimizer for a group of parameters of one learning rate and decay.
#pragma once

#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace comba::vision {

// adamw  Loshchilov and Hutter, arXiv 1711.05101
// lamb   You et al., arXiv 1904.00962, as timm 1.0.31 (optim/lamb.py) has it: Adam's step with the decay in it, as long as
//        the parameter's norm; parameters without decay take it as it is
// sgd    with Nesterov's momentum; the decay is part of the gradient
enum class UpdateRule { adamw, lamb, sgd };

// "adamw", "lamb" or "sgd".
UpdateRule update_rule_of(const std::string& name);

struct UpdateOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;  // of adamw and lamb
  double momentum = 0.9;                          // of sgd
};

// fp32 tensors of one shape each: parameters, their gradients (which may be changed), first moments (sgd: momentum buffers)
// and second moments (sgd: none).
struct UpdateGroup {
  std::vector<at::Tensor> parameters, gradients, means, squares;
};

// 0-d fp32 tensors on the parameters' device.
struct UpdateStep {
  at::Tensor lr;
  at::Tensor steps;   // done, this one counted if it is not skipped
  at::Tensor skip;    // 1: nothing changes; gradients may then be anything
  at::Tensor factor;  // what gradients are multiplied by first; may be undefined
  double weight_decay = 0.0;
};

// Nothing here waits for the device.
void update_parameters(UpdateRule rule, const UpdateGroup& group, const UpdateStep& step,
                       const UpdateOptions& options);

}  // namespace comba::vision
