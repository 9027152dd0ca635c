// What the README promises to C++ programs: a backbone and the recurrence, from the installed headers and libraries alone.
#include "kernels/scan.h"
#include "vision/backbone.h"

#include <cstdio>

#include <ATen/Functions.h>
#include <c10/core/GradMode.h>

namespace {

// Without feedback (c = 0), decay (log alpha = 0) or correction, the scan both ways is attention without a softmax: the sum
// over all earlier tokens and that over all later ones, the token itself in both.
double distance_from_linear_attention() {
  const auto q = at::randn({2, 37, 3, 16}), k = at::randn({2, 37, 3, 16}),
             v = at::randn({2, 37, 3, 32});
  const auto zero = at::zeros({2, 2, 37, 3}), one = at::ones({2, 2, 37, 3});
  const auto out =
      comba::kernels::bidirectional_scan(q, k, v, zero, one, zero, {}, 1.0, false, "sum");
  const auto scores = at::einsum("bthd,bshd->bhts", {q, k});
  const auto expected =
      at::einsum("bhts,bshv->bthv", {scores + at::diag_embed(scores.diagonal(0, 2, 3)), v});
  return (out - expected).abs().max().item<double>();
}

}  // namespace

int main() {
  const c10::NoGradGuard no_grad;
  comba::vision::Backbone backbone(comba::vision::BackboneConfig{});
  backbone->eval();
  int64_t parameters = 0;
  for (const auto& parameter : backbone->parameters()) {
    parameters += parameter.numel();
  }
  const auto features = backbone->forward(at::rand({1, 3, 224, 224}));
  const bool counted =
      parameters == 5'848'456 - (192 + 1) * 1000;  // Comba-T without its head of 1,000 classes
  const bool sound =
      features.sizes() == at::IntArrayRef{1, 192} && features.isfinite().all().item<bool>();
  const double distance = distance_from_linear_attention();
  std::printf(
      "Comba-T backbone: %ld parameters, features %s; scan against linear attention: %.2g\n",
      static_cast<long>(parameters), sound ? "sound" : "UNSOUND", distance);
  return counted && sound && distance < 1e-3 ? 0 : 1;
}
