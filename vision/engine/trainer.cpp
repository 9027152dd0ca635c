#include "vision/engine/trainer.h"

#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/log.h"
#include "vision/base/progress.h"
#include "vision/base/stopwatch.h"
#include "vision/engine/ema.h"
#include "vision/engine/gradient_reducer.h"
#include "vision/engine/optimizer.h"
#include "vision/engine/rank_checks.h"
#include "vision/engine/run_checkpoints.h"
#include "vision/engine/run_log.h"
#include "vision/engine/schedule.h"
#include "vision/engine/side_stream.h"
#include "vision/engine/stop_signal.h"
#include "vision/engine/training_step.h"
#include "vision/nn/batch_share.h"

#include <cmath>
#include <optional>
#include <utility>

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <unistd.h>

namespace comba::vision {
namespace {

c10::Device device_of(const torch::nn::Module& model) {
  const auto parameters = model.parameters();
  COMBA_CHECK(!parameters.empty(), "training: the model has no parameters");
  return parameters.front().device();
}

std::string format_metrics(const Metrics& metrics, const char* prefix = "") {
  std::string text;
  for (const auto& [name, value] : metrics) {
    text += fmt::format("{}{}{} {:.4g}", text.empty() ? "" : "  ", prefix, name, value);
  }
  return text;
}

std::optional<double> find_metric(const Metrics& metrics, const std::string& name) {
  for (const auto& [key, value] : metrics) {
    if (key == name) {
      return value;
    }
  }
  return std::nullopt;
}

std::string hash_of(const std::string& text) {
  return fmt::format("{:08x}",
                     crc32c({reinterpret_cast<const uint8_t*>(text.data()), text.size()}));
}

class Trainer {
 public:
  Trainer(Task& task, const TrainOptions& options, const RunOptions& run);
  ~Trainer() { set_batch_share({}); }
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;
  TrainResult run();

 private:
  void begin();
  void train_epoch();
  void train_step();
  void flush_loss();
  void log_interval();
  void close_epoch();
  void evaluate();
  bool save();
  bool finished() const { return state_.step >= total_steps_; }
  bool stopping() const { return stop_.received() != 0 || finished(); }
  bool epoch_over() const { return state_.epoch_step >= steps_per_epoch_; }

  Task& task_;
  TrainOptions options_;
  RunOptions run_;
  Ranks& ranks_;
  StopSignal stop_;
  c10::Device device_;
  int64_t steps_per_epoch_, total_steps_;
  Schedule schedule_;
  Optimizer optimizer_;
  TrainingStep step_;
  std::optional<WeightAverage> average_;
  std::optional<GradientReducer> reducer_;  // with several ranks
  std::optional<RunLog> log_;               // of rank 0
  CheckpointState state_;
  std::optional<RunCheckpoints> checkpoints_;
  TrainResult result_;
  int64_t pending_steps_ = 0;   // whose losses are not read yet
  double interval_loss_ = 0.0;  // of the steps since the last log line
  int64_t interval_steps_ = 0;
  double interval_wait_ = 0.0;  // data_wait_seconds() at the last log line
  Metrics interval_stages_;     // and data_stage_seconds()
  double trained_seconds_ = 0.0, epoch_seconds_ = 0.0;
  int64_t trained_steps_ = 0, epoch_steps_here_ = 0;
  double skipped_seen_ = 0.0;
  bool improved_ = false;
  int64_t evaluated_step_ = -1;
  Stopwatch interval_clock_;
};

int64_t planned_steps(const TrainOptions& options, int64_t steps_per_epoch) {
  const int64_t all = options.epochs * steps_per_epoch;
  return options.max_steps > 0 ? std::min(options.max_steps, all) : all;
}

// By how much each figure grew, as a share of the seconds passed.
Metrics shares(const Metrics& before, Metrics now, double seconds) {
  for (auto& [name, value] : now) {
    value = (value - find_metric(before, name).value_or(0.0)) / seconds;
  }
  return now;
}

// " (read 3, decode 60 %)", or nothing.
std::string in_words(const Metrics& stages) {
  std::string text;
  for (const auto& [name, share] : stages) {
    text += fmt::format("{}{} {:.0f}", text.empty() ? " (" : ", ", name, 100.0 * share);
  }
  return text.empty() ? text : text + " %)";
}

// The schedule spans the epochs even if max_steps stops earlier: a run that is cut short and later resumed
// with a larger max_steps is the run that was never cut.
Schedule make_schedule(const TrainOptions& options, int64_t steps_per_epoch) {
  const auto steps = [&](double epochs) {
    return std::llround(epochs * static_cast<double>(steps_per_epoch));
  };
  return {.shape = shape_of(options.schedule),
          .peak_lr = options.peak_lr(),
          .min_lr = options.min_lr,
          .warmup_lr = options.warmup_lr,
          .warmup_steps = steps(options.warmup_epochs),
          .total_steps = options.epochs * steps_per_epoch,
          .drop_step = steps(options.drop_epoch),
          .power = options.power,
          .every = options.lr_every == "epoch" ? steps_per_epoch : 1};
}

OptimizerOptions optimizer_options_of(const Task& task, const TrainOptions& train) {
  OptimizerOptions options = optimizer_options(train);
  options.lr_scale = [&task](const std::string& name) { return task.lr_scale(name); };
  return options;
}

Trainer::Trainer(Task& task, const TrainOptions& options, const RunOptions& run)
    : task_(task),
      options_(options),
      run_(run),
      ranks_(*run.ranks),
      stop_(run.ranks),
      device_(device_of(task.model())),
      steps_per_epoch_(task.steps_per_epoch()),
      total_steps_(planned_steps(options, steps_per_epoch_)),
      schedule_(make_schedule(options, steps_per_epoch_)),
      optimizer_(task.model(), optimizer_options_of(task, options)),
      step_(task, optimizer_,
            {.precision = choose_precision(options.precision, device_),
             .parts = options.accumulate,
             .record = options.cuda_graph}) {
  COMBA_CHECK(
      steps_per_epoch_ > 0,
      "training: the training data does not fill one batch of {} images; lower train.batch_size",
      task.batch_size());
  if (options.ema_decay > 0) {
    average_.emplace(task.model(), options.ema_decay);
  }
  state_.data_fingerprint = task.data_fingerprint();
  state_.config_hash = hash_of(run.config);
  checkpoints_.emplace(RunParts{task, optimizer_, average_, state_}, run.folder, run.config,
                       options.keep, run.ranks);
  set_batch_share(
      {ranks_.rank(), ranks_.size(), [this](const at::Tensor& tensor) { ranks_.sum(tensor); }});
  if (ranks_.size() > 1) {
    reducer_.emplace(task.model(), run.ranks);
    step_.set_reducer(&*reducer_);
  }
}

// From the newest checkpoint, if that is asked for, or from the beginning.
void Trainer::begin() {
  check_agreement(ranks_, "what they train on",
                  fmt::format("configuration {}, data {}, {} steps an epoch", state_.config_hash,
                              state_.data_fingerprint, steps_per_epoch_));
  checkpoints_->prepare();
  const std::string resumed = run_.resume ? checkpoints_->resume() : "";
  if (!resumed.empty()) {
    skipped_seen_ = optimizer_.skipped();
    log::info("resuming from {}: step {} of {}", resumed, state_.step, total_steps_);
  }
  check_equal_weights(ranks_, task_.model(), "before the first step");
  if (ranks_.first()) {
    write_file_atomic(run_.folder / "config.toml", run_.config);
    log_.emplace(run_.folder, resumed.empty() ? -1 : state_.step);
  }
}

TrainResult Trainer::run() {
  begin();
  bool saved = true;
  while (!stopping() || (epoch_over() && !state_.epoch_closed)) {
    if (epoch_over() && state_.epoch_closed) {
      state_.epoch += 1;
      state_.epoch_step = 0;
      state_.epoch_closed = false;
      state_.epoch_loss_sum = 0.0;
    }
    train_epoch();
    stop_.agree();
    if (stop_.received() == 0) {
      try {
        close_epoch();
      } catch (...) {  // what was trained is not lost with its evaluation
        checkpoints_->save_alone(improved_);
        throw;
      }
      stop_.agree();
    }
    saved = save();
    if (stop_.received() != 0) {
      break;
    }
  }
  if (stop_.received() == 0 && evaluated_step_ != state_.step) {  // resumed a run that had ended
    evaluate();
  }
  result_.steps = state_.step;
  result_.best_metric = state_.best_metric;
  result_.best_epoch = state_.best_epoch;
  result_.best_weights = state_.best_weights;
  result_.signal = stop_.received();
  if (trained_seconds_ > 0) {
    result_.images_per_second =
        static_cast<double>(trained_steps_ * task_.batch_size()) / trained_seconds_;
  }
  COMBA_CHECK(saved, "training ended at step {}, but its last checkpoint could not be written: {}",
              state_.step, checkpoints_->failure());
  return result_;
}

void Trainer::train_epoch() {
  if (epoch_over()) {
    return;  // stopped after the last step of an epoch, before its evaluation
  }
  task_.model().train();
  task_.start_epoch(state_.epoch, state_.epoch_step);
  std::optional<Progress> progress;
  if (ranks_.first() && isatty(STDERR_FILENO) != 0) {
    progress.emplace(fmt::format("epoch {}/{}", state_.epoch + 1, options_.epochs),
                     steps_per_epoch_ * task_.batch_size(), "img");
  }
  epoch_seconds_ = 0.0;
  epoch_steps_here_ = 0;
  interval_wait_ = task_.data_wait_seconds();
  interval_stages_ = task_.data_stage_seconds();
  interval_clock_.restart();
  while (!epoch_over() && !stopping()) {
    train_step();
    stop_.after_step();
    if (progress) {
      progress->update(state_.epoch_step * task_.batch_size());
    }
    if (state_.step % options_.log_every == 0) {
      log_interval();
    }
    if (options_.checkpoint_every > 0 && state_.step % options_.checkpoint_every == 0 &&
        !epoch_over() && !stopping()) {
      flush_loss();
      save();
    }
  }
  log_interval();
  if (progress) {
    progress->finish();
  }
}

void Trainer::train_step() {
  step_.run(schedule_.lr(state_.step));
  if (average_) {
    average_->update();
  }
  ++pending_steps_;
  ++state_.step;
  ++state_.epoch_step;
  if (device_.is_cpu()) {
    flush_loss();
  }
}

// Reading the loss waits for the GPU, so it is read once an interval. Steps whose gradients are not finite
// do not change the weights (Optimizer::step), so nothing is lost by noticing late. The loss of a batch is the mean of its
// shares', and so the same on all ranks.
void Trainer::flush_loss() {
  if (pending_steps_ == 0) {
    return;
  }
  const double sum = step_.take_loss(ranks_);
  COMBA_CHECK(
      std::isfinite(sum),
      "training: the loss became {} in epoch {}, between steps {} and {}. Lower train.lr, set "
      "train.clip_grad, or look at the data (comba data check). Checkpoints before that step are "
      "in {}",
      sum, state_.epoch + 1, state_.step - pending_steps_ + 1, state_.step,
      checkpoints_->folder().string());
  state_.epoch_loss_sum += sum;
  interval_loss_ += sum;
  interval_steps_ += pending_steps_;
  pending_steps_ = 0;
}

void Trainer::log_interval() {
  flush_loss();
  if (interval_steps_ == 0) {
    return;
  }
  const double seconds = interval_clock_.seconds();
  const double wait = task_.data_wait_seconds() - interval_wait_;
  const double images = static_cast<double>(interval_steps_ * task_.batch_size());
  const IntervalRecord record{
      .step = state_.step,
      .epoch = state_.epoch,
      .loss = interval_loss_ / static_cast<double>(interval_steps_),
      .lr = schedule_.lr(state_.step - 1),
      .gradient_norm = optimizer_.gradient_norm(),
      .images_per_second = images / seconds,
      .data_wait = wait / seconds,
      .data_stages = shares(interval_stages_, task_.data_stage_seconds(), seconds)};
  trained_seconds_ += seconds;
  trained_steps_ += interval_steps_;
  epoch_seconds_ += seconds;
  epoch_steps_here_ += interval_steps_;
  const double left = static_cast<double>(total_steps_ - state_.step) * trained_seconds_ /
                      static_cast<double>(trained_steps_);
  log::info(
      "epoch {}/{} [{}/{}]  loss {:.4f} ({:.4f})  {:.0f} img/s  lr {:.3g}  data wait {:.1f} %{}  "
      "ETA {}",
      state_.epoch + 1, options_.epochs, state_.epoch_step, steps_per_epoch_, record.loss,
      state_.epoch_loss_sum / static_cast<double>(state_.epoch_step), record.images_per_second,
      record.lr, 100.0 * record.data_wait, in_words(record.data_stages), format_duration(left));
  if (const double skipped = optimizer_.skipped(); skipped > skipped_seen_) {
    log::warning("{} steps were skipped because their gradients were not finite",
                 skipped - skipped_seen_);
    skipped_seen_ = skipped;
  }
  if (log_) {
    log_->add(record);
  }
  interval_loss_ = 0.0;
  interval_steps_ = 0;
  interval_wait_ = task_.data_wait_seconds();
  interval_stages_ = task_.data_stage_seconds();
  interval_clock_.restart();
}

void Trainer::evaluate() {
  task_.model().eval();
  const auto consider = [&](const Metrics& metrics, const char* weights) {
    const std::optional<double> value = find_metric(metrics, task_.primary_metric());
    COMBA_CHECK(value.has_value(), "evaluating: the task reports no metric named {}",
                task_.primary_metric());
    if (*value > state_.best_metric) {
      state_.best_metric = *value;
      state_.best_epoch = state_.epoch;
      state_.best_weights = weights;
      improved_ = true;
    }
  };
  result_.last_average.clear();
  if (average_) {
    const WeightAverage::Scope scope(*average_);
    result_.last_average = task_.evaluate();
    consider(result_.last_average, "ema");
  }
  result_.last = task_.evaluate();
  consider(result_.last, "raw");
  evaluated_step_ = state_.step;
}

void Trainer::close_epoch() {
  const bool due = options_.eval_every > 0 && (state_.epoch + 1) % options_.eval_every == 0;
  const bool evaluated = due || finished();
  if (evaluated) {
    evaluate();
  }
  EpochRecord record{.step = state_.step,
                     .epoch = state_.epoch,
                     .train_loss = state_.epoch_loss_sum / static_cast<double>(state_.epoch_step),
                     .lr = schedule_.lr(state_.step - 1),
                     .seconds = epoch_seconds_,
                     .images_per_second = 0.0,
                     .raw = {},
                     .average = {}};
  if (epoch_seconds_ > 0) {
    record.images_per_second =
        static_cast<double>(epoch_steps_here_ * task_.batch_size()) / epoch_seconds_;
  }
  if (evaluated) {
    record.raw = result_.last;
    record.average = result_.last_average;
  }
  state_.epoch_closed = epoch_over();
  if (!log_) {
    return;
  }
  log_->add(record);
  if (!evaluated) {
    return;
  }
  log::info("epoch {}/{} evaluated: {}{}{}{}", state_.epoch + 1, options_.epochs,
            format_metrics(result_.last), result_.last_average.empty() ? "" : "  |  ",
            format_metrics(result_.last_average, "ema "), improved_ ? "  (best so far)" : "");
  log_->write_report(run_.title, run_.config, task_.report_sections());
}

bool Trainer::save() { return checkpoints_->save(std::exchange(improved_, false)); }

}  // namespace

TrainResult train(Task& task, const TrainOptions& options, const RunOptions& run) {
  if (options.threads > 0) {
    at::set_num_threads(static_cast<int>(options.threads));
  }
  TrainResult result;
  // A graph cannot be recorded on the default stream.
  SideStream(device_of(task.model()), /*urgent=*/false).run_alone([&] {
    result = Trainer(task, options, run).run();
  });
  return result;
}

}  // namespace comba::vision
