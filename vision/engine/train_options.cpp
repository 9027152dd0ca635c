#include "vision/engine/train_options.h"

namespace comba::vision {

void declare(ConfigTable& table, TrainOptions& o) {
  constexpr double kMany = 1e12;
  table.add("train.epochs", &o.epochs, "passes over the training data", {1, 1e6});
  table.add("train.max_steps", &o.max_steps,
            "stop after so many steps, whatever the epochs (the schedule still spans them); 0: off",
            {0, kMany});
  table.add("train.batch_size", &o.batch_size, "images per step", {1, 1e6});
  table.add("train.lr", &o.lr, "peak learning rate", {0, 10});
  table.add(
      "train.lr_batch", &o.lr_batch,
      "train.lr is meant for this batch size and scaled by batch_size / lr_batch; 0: not scaled",
      {0, 1e6});
  table.add_choice(
      "train.schedule", &o.schedule, {"cosine", "poly", "step"},
      "of the learning rate after the warm-up; step: a tenth from train.drop_epoch on");
  table.add("train.drop_epoch", &o.drop_epoch, "where the step schedule drops", {0, 1e6});
  table.add("train.power", &o.power,
            "poly: the rate falls with the share of steps left to this power", {0.01, 100});
  table.add_choice("train.lr_every", &o.lr_every, {"step", "epoch"},
                   "when the rate changes; epoch, as timm does by default: it stays for an epoch");
  table.add("train.min_lr", &o.min_lr, "where cosine and poly end", {0, 10});
  table.add("train.warmup_lr", &o.warmup_lr, "where the warm-up starts", {0, 10});
  table.add("train.warmup_epochs", &o.warmup_epochs, "length of the linear warm-up", {0, 1e6});
  table.add("train.weight_decay", &o.weight_decay, "of what train.decay names", {0, 10});
  table.add_choice("train.decay", &o.decay, {"matrices", "all"},
                   "matrices: and convolutions, but no norms, biases, positions and gates");
  table.add_choice("train.optimizer", &o.optimizer, {"adamw", "lamb", "sgd"},
                   "sgd: with Nesterov's momentum");
  table.add("train.beta1", &o.beta1, "adamw, lamb: decay of the first moment", {0, 0.999999});
  table.add("train.beta2", &o.beta2, "adamw, lamb: decay of the second moment", {0, 0.999999});
  table.add("train.eps", &o.eps, "adamw, lamb: epsilon", {0, 1});
  table.add("train.momentum", &o.momentum, "sgd: momentum", {0, 0.999999});
  table.add("train.clip_grad", &o.clip_grad, "largest global gradient norm; 0: off", {0, 1e6});
  table.add("train.ema_decay", &o.ema_decay, "of the average of the weights; 0: no average",
            {0, 0.9999999});
  table.add_choice("train.precision", &o.precision, {"auto", "fp32", "bf16"},
                   "auto: bf16 autocast on CUDA, fp32 on the CPU");
  table.add("train.cuda_graph", &o.cuda_graph,
            "CUDA: record the step as a graph and replay it; the numbers are the same without");
  table.add("train.accumulate", &o.accumulate,
            "parts of a batch that go through the model one after another, to save memory; divides "
            "train.batch_size",
            {1, 1e6});
  table.add(
      "train.threads", &o.threads,
      "CPU threads for the arithmetic; 0: all. Results are bit-identical only for equal values",
      {0, 1024});
  table.add("train.eval_every", &o.eval_every, "epochs between evaluations; 0: only at the end",
            {0, 1e6});
  table.add("train.checkpoint_every", &o.checkpoint_every,
            "steps between checkpoints within an epoch; 0: only at its end", {0, kMany});
  table.add("train.keep", &o.keep, "step-N checkpoints kept beside last and best", {1, 1e6});
  table.add("train.log_every", &o.log_every, "steps between log lines", {1, kMany});
  table.add("train.max_skipped", &o.max_skipped,
            "steps in a row whose loss or gradients are not finite, and which are left out, before "
            "the run ends with their batch in its folder; 0: it goes on",
            {0, kMany});
  table.add("train.loss_spike", &o.loss_spike,
            "standard deviations above the loss of the last steps from which on a step is warned "
            "of; 0: no warnings",
            {0, 1e6});
  table.add("train.tensorboard", &o.tensorboard, "write event files for TensorBoard into the run");
  table.add("train.bucket_mib", &o.bucket_mib,
            "MiB of gradients that several ranks exchange at once, while the backward pass goes on",
            {0.001, 1e6});
}

}  // namespace comba::vision
