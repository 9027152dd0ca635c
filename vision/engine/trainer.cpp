#include "vision/engine/trainer.h"

#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/log.h"
#include "vision/base/progress.h"
#include "vision/engine/device_memory.h"
#include "vision/engine/ema.h"
#include "vision/engine/failed_step.h"
#include "vision/engine/gradient_reducer.h"
#include "vision/engine/optimizer.h"
#include "vision/engine/out_of_memory.h"
#include "vision/engine/rank_checks.h"
#include "vision/engine/run_checkpoints.h"
#include "vision/engine/run_log.h"
#include "vision/engine/schedule.h"
#include "vision/engine/side_stream.h"
#include "vision/engine/step_watch.h"
#include "vision/engine/stop_signal.h"
#include "vision/engine/training_meter.h"
#include "vision/engine/training_step.h"
#include "vision/nn/batch_share.h"

#include <cmath>
#include <optional>
#include <utility>

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>
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
  void read_steps();
  void log_interval();
  void report(const IntervalRecord& record);
  [[noreturn]] void give_up();
  [[noreturn]] void fail_for_memory();
  void close_epoch();
  void evaluate();
  bool save();
  bool finished() const { return state_.step >= total_steps_; }
  bool stopping() const { return stop_.received() != 0 || finished(); }
  bool epoch_over() const { return state_.epoch_step >= steps_per_epoch_; }
  double epoch_loss() const {
    return state_.epoch_loss_sum / static_cast<double>(state_.epoch_loss_steps);
  }

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
  TrainingMeter meter_;
  StepWatch watch_;
  int64_t pending_steps_ = 0;  // that are not read back yet
  bool improved_ = false;
  int64_t evaluated_step_ = -1;
};

int64_t planned_steps(const TrainOptions& options, int64_t steps_per_epoch) {
  const int64_t all = options.epochs * steps_per_epoch;
  return options.max_steps > 0 ? std::min(options.max_steps, all) : all;
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
             .record = options.cuda_graph}),
      meter_(task),
      watch_(options.loss_spike) {
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
    reducer_.emplace(task.model(), run.ranks, static_cast<int64_t>(options.bucket_mib * (1 << 20)));
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
    log::info("resuming from {}: step {} of {}", resumed, state_.step, total_steps_);
  }
  check_equal_weights(ranks_, task_.model(), "before the first step");
  if (ranks_.first()) {
    write_file_atomic(run_.folder / "config.toml", run_.config);
    log_.emplace(run_.folder, resumed.empty() ? -1 : state_.step, options_.tensorboard);
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
      state_.epoch_loss_steps = 0;
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
  result_.images_per_second = meter_.images_per_second();
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
  meter_.begin_epoch();
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
      read_steps();
      save();
    }
  }
  log_interval();
  if (progress) {
    progress->finish();
  }
}

void Trainer::train_step() {
  try {
    step_.run(schedule_.lr(state_.step));
  } catch (const c10::OutOfMemoryError&) {
    fail_for_memory();
  }
  if (average_) {
    average_->update();
  }
  ++pending_steps_;
  ++state_.step;
  ++state_.epoch_step;
  if (device_.is_cpu() || pending_steps_ == StepHistory::kCapacity) {
    read_steps();
  }
}

// Reading waits for the GPU, so it is done once an interval. A step whose gradients are not finite does not change the weights
// (Optimizer::step), so nothing is lost by noticing late.
void Trainer::read_steps() {
  if (pending_steps_ == 0) {
    return;
  }
  int64_t step = state_.step - std::exchange(pending_steps_, 0);
  for (const StepFigures& figures : step_.take_figures(ranks_)) {
    watch_.see(++step, figures);
    meter_.add(figures);
    if (figures.finite()) {
      state_.epoch_loss_sum += figures.loss;
      ++state_.epoch_loss_steps;
    }
  }
  if (options_.max_skipped > 0 && watch_.skipped_in_a_row() >= options_.max_skipped) {
    give_up();
  }
}

// All ranks come here after the same step, as they have read the same figures.
void Trainer::give_up() {
  const int64_t row = watch_.skipped_in_a_row(), here = std::min(row, state_.epoch_step);
  const bool saved = save();
  if (reducer_) {
    reducer_->set_active(false);
  }
  step_.forget();
  const FailedStep failed{.step = state_.step - here + 1,
                          .epoch = state_.epoch,
                          .epoch_step = state_.epoch_step - here};
  const auto folder = run_.folder / fmt::format("failed-step-{}", failed.step);
  const std::string found = dump_failed_step(task_, failed, step_.precision(), folder, ranks_);
  throw Error(
      fmt::format("training: the loss or the gradients of {} steps in a row, {} to {}, were not "
                  "finite; they were skipped. "
                  "Of step {}: {} (samples, batch and weights: {}). Lower train.lr, set "
                  "train.clip_grad, or look at the "
                  "data (comba data check); train.max_skipped = 0 goes on regardless. {}",
                  row, state_.step - row + 1, state_.step, failed.step, found, folder.string(),
                  saved ? "The state is saved: --resume goes on behind these steps"
                        : "Earlier checkpoints are in " + checkpoints_->folder().string()));
}

void Trainer::fail_for_memory() {
  step_.forget();
  optimizer_.zero_grad();
  if (reducer_) {
    reducer_->set_active(false);
  }
  set_batch_share({});  // the other ranks may be anywhere
  throw Error(out_of_memory_message(task_, step_.precision(),
                                    {.images = task_.batch_size() / ranks_.size(),
                                     .parts = options_.accumulate,
                                     .ranks = ranks_.size()},
                                    device_));
}

void Trainer::log_interval() {
  read_steps();
  if (meter_.empty()) {
    return;
  }
  IntervalRecord record = meter_.close();
  record.step = state_.step;
  record.epoch = state_.epoch;
  record.lr = schedule_.lr(state_.step - 1);
  record.memory = device_memory(device_).reserved;
  report(record);
  if (log_) {
    log_->add(record);
  }
}

// One line, and what was out of the ordinary.
void Trainer::report(const IntervalRecord& record) {
  const std::string memory =
      record.memory > 0
          ? fmt::format("  memory {:.1f} GiB", static_cast<double>(record.memory) / (1 << 30))
          : "";
  log::info(
      "epoch {}/{} [{}/{}]  loss {:.4f} ({:.4f})  {:.0f} img/s  lr {:.3g}  norm {:.3g}{}  data "
      "wait "
      "{:.1f} %{}  ETA {}",
      state_.epoch + 1, options_.epochs, state_.epoch_step, steps_per_epoch_, record.loss,
      epoch_loss(), record.images_per_second, record.lr, record.gradient_norm, memory,
      100.0 * record.data_wait, in_words(record.data_stages),
      format_duration(meter_.seconds_for(total_steps_ - state_.step)));
  if (record.skipped > 0) {
    log::warning(
        "{} of the last steps were skipped because their loss or gradients were not finite ({} in "
        "this run)",
        record.skipped, watch_.skipped());
  }
  for (const LossSpike& spike : watch_.take_spikes()) {
    log::warning("the loss of step {} was {:.4f}, where {:.4f} +- {:.4f} was usual", spike.step,
                 spike.loss, spike.usual, spike.deviation);
  }
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
                     .train_loss = epoch_loss(),
                     .lr = schedule_.lr(state_.step - 1),
                     .seconds = meter_.epoch_seconds(),
                     .images_per_second = meter_.epoch_images_per_second(),
                     .raw = {},
                     .average = {}};
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
