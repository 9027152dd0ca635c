// A trained classifier teaches another one (Touvron et al., arXiv 2012.12877, section 4; Hinton et al., arXiv 1503.02531).
#pragma once

#include "classify/classifier.h"
#include "classify/distill_options.h"

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace comba::classify {

struct RunConfig;

// Logits [B, K] fp32 of student and teacher ->
//   soft: t^2 KL(softmax(teacher / t) || softmax(student / t)), the mean over the batch
//   hard: the student's cross entropy with the teacher's choices
at::Tensor distillation_loss(const at::Tensor& student, const at::Tensor& teacher,
                             const DistillOptions& options);

class Teacher {
 public:
  // Loads config.distill.teacher. Throws UsageError unless it takes images of the student's size and names the same classes.
  Teacher(const RunConfig& config, const std::vector<std::string>& classes,
          const c10::Device& device);
  // images as the student gets them -> logits [B, K] fp32, without gradients
  at::Tensor logits(const at::Tensor& images);

 private:
  Classifier model_{nullptr};
  at::Tensor scale_,
      shift_;  // [C, 1, 1] from the student's normalisation to the teacher's; undefined: the same
};

}  // namespace comba::classify
