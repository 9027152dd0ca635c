#include "classify/distillation.h"

#include "classify/bundle.h"
#include "classify/config.h"
#include "vision/base/error.h"
#include "vision/base/log.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/addcmul.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/kl_div.h>
#include <ATen/ops/tensor.h>

namespace comba::classify {
namespace {

at::Tensor per_channel(const std::vector<double>& values, const c10::Device& device) {
  return at::tensor(values, at::kFloat).view({-1, 1, 1}).to(device);
}

// What the student is trained on has to be something that the teacher knows.
void check_teacher(const Bundle& teacher, const RunConfig& student,
                   const std::vector<std::string>& classes) {
  const vision::BackboneConfig &theirs = teacher.config.model, &ours = student.model;
  if (theirs.image_size != ours.image_size || theirs.in_channels != ours.in_channels) {
    throw UsageError(
        fmt::format("distill.teacher = \"{}\": it takes {} x {} px with {} channels, the student "
                    "{} x {} with {}; "
                    "expected the same, see model.image_size",
                    student.distill.teacher, theirs.image_size, theirs.image_size,
                    theirs.in_channels, ours.image_size, ours.image_size, ours.in_channels));
  }
  const auto count = static_cast<size_t>(teacher.model->classes());
  if (count != classes.size() || (teacher.classes_named && teacher.class_names != classes)) {
    throw UsageError(
        fmt::format("distill.teacher = \"{}\": it knows {} classes, the data has {}, or their "
                    "names differ; expected "
                    "a teacher that was trained on the same classes",
                    student.distill.teacher, count, classes.size()));
  }
}

}  // namespace

void declare(ConfigTable& table, DistillOptions& options) {
  table.add("distill.teacher", &options.teacher,
            "a trained classifier to learn from: run folder or weights; empty: none");
  table.add("distill.config", &options.config,
            "the teacher's configuration, where its file has none");
  table.add_choice("distill.kind", &options.kind, {"hard", "soft"},
                   "learn the class it says (hard) or how sure it is of each (soft)");
  table.add("distill.weight", &options.weight, "the teacher's share of the loss", {0, 1});
  table.add("distill.temperature", &options.temperature, "soft: divides both sides' logits",
            {0.01, 1000});
}

at::Tensor distillation_loss(const at::Tensor& student, const at::Tensor& teacher,
                             const DistillOptions& options) {
  if (options.kind == "hard") {
    return at::cross_entropy_loss(student, teacher.argmax(1));
  }
  const double t = options.temperature;
  const at::Tensor each = at::kl_div((student / t).log_softmax(1), (teacher / t).log_softmax(1),
                                     at::Reduction::Sum, /*log_target=*/true);
  return each * (t * t / static_cast<double>(student.size(0)));
}

Teacher::Teacher(const RunConfig& config, const std::vector<std::string>& classes,
                 const c10::Device& device) {
  const Bundle bundle = taking("distill.teacher", [&] {
    return load_bundle(config.distill.teacher, "auto", device, config.distill.config);
  });
  check_teacher(bundle, config, classes);
  model_ = bundle.model;
  const DataOptions &ours = config.data, &theirs = bundle.config.data;
  if (ours.mean != theirs.mean || ours.std != theirs.std) {
    const at::Tensor std = per_channel(theirs.std, device);
    scale_ = per_channel(ours.std, device) / std;
    shift_ = (per_channel(ours.mean, device) - per_channel(theirs.mean, device)) / std;
  }
  log::info("learning from {} ({}, weight {:g})", bundle.weights.string(), config.distill.kind,
            config.distill.weight);
}

at::Tensor Teacher::logits(const at::Tensor& images) {
  const at::NoGradGuard no_grad;
  return model_->forward(scale_.defined() ? at::addcmul(shift_, images, scale_) : images)
      .to(at::kFloat);
}

}  // namespace comba::classify
