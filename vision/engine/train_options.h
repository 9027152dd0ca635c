// The keys of the training loop that hold for every task.
#pragma once

#include "vision/base/config.h"

#include <cstdint>
#include <string>

namespace comba::vision {

struct TrainOptions {
  int64_t epochs = 300;
  int64_t max_steps = 0;            // stop after so many optimizer steps; 0: after `epochs`
  int64_t batch_size = 256;         // images per step
  double lr = 5e-4;                 // peak learning rate, for `lr_batch` images per step
  int64_t lr_batch = 0;             // lr is scaled by batch_size / lr_batch; 0: used as it stands
  std::string schedule = "cosine";  // cosine | poly | step: a tenth of the rate from drop_epoch on
  double drop_epoch = 240;
  double power = 1.0;             // of poly
  std::string lr_every = "step";  // the rate changes every step | epoch
  double min_lr = 1e-5;
  double warmup_lr = 1e-6;
  double warmup_epochs = 5.0;
  double weight_decay = 0.05;
  std::string decay = "matrices";   // what decays: matrices | all parameters
  std::string optimizer = "adamw";  // adamw | lamb | sgd
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double momentum = 0.9;           // of sgd
  double clip_grad = 1.0;          // global gradient norm; 0: off
  double ema_decay = 0.0;          // weight average; 0: off
  std::string precision = "auto";  // auto: bf16 autocast on CUDA, fp32 on the CPU | fp32 | bf16
  bool cuda_graph = true;          // on CUDA: the step is recorded and replayed
  int64_t accumulate = 1;          // parts of a batch that go through the model one after another
  int64_t threads = 0;             // CPU threads of LibTorch; 0: its own choice
  int64_t eval_every = 1;          // epochs; 0: only at the end
  int64_t checkpoint_every = 0;    // steps; 0: at the end of every epoch
  int64_t keep = 2;                // step-N checkpoints kept beside last and best
  int64_t log_every = 50;          // steps between log lines
  int64_t max_skipped =
      20;  // steps in a row without a finite loss and gradient that end the run; 0: never
  double loss_spike = 8.0;   // deviations above the usual loss that are worth a warning; 0: none
  bool tensorboard = true;   // event files beside metrics.jsonl
  double bucket_mib = 25.0;  // of gradients that several ranks exchange at once

  // The peak learning rate after scaling by the batch.
  double peak_lr() const {
    return lr_batch > 0 ? lr * static_cast<double>(batch_size) / static_cast<double>(lr_batch) : lr;
  }
};

// Registers the keys under "train." in the table.
void declare(ConfigTable& table, TrainOptions& options);

}  // namespace comba::vision
