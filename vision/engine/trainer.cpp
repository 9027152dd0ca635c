#include "vision/engine/trainer.h"

#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/log.h"
#include "vision/base/progress.h"
#include "vision/base/stopwatch.h"
#include "vision/engine/checkpoint.h"
#include "vision/engine/ema.h"
#include "vision/engine/optimizer.h"
#include "vision/engine/run_log.h"
#include "vision/engine/schedule.h"
#include "vision/engine/side_stream.h"
#include "vision/engine/training_step.h"

#include <atomic>
#include <cmath>
#include <csignal>
#include <optional>
#include <tuple>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <unistd.h>

namespace comba::vision {
namespace fs = std::filesystem;
namespace {

std::atomic<int> signal_received{0};

void on_signal(int signal) {
  int none = 0;
  if (!signal_received.compare_exchange_strong(none, signal)) {
    _exit(128 + signal);
  }
}

// Catches SIGINT and SIGTERM while alive.
class SignalScope {
 public:
  SignalScope() {
    signal_received = 0;
    struct sigaction action {};
    action.sa_handler = on_signal;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, &interrupt_);
    sigaction(SIGTERM, &action, &terminate_);
  }
  ~SignalScope() {
    sigaction(SIGINT, &interrupt_, nullptr);
    sigaction(SIGTERM, &terminate_, nullptr);
  }
  SignalScope(const SignalScope&) = delete;
  SignalScope& operator=(const SignalScope&) = delete;

 private:
  struct sigaction interrupt_ {
  }, terminate_{};
};

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

NamedTensors weights_of(const torch::nn::Module& model) {
  NamedTensors tensors;
  for (const auto& item : model.named_parameters()) {
    tensors.emplace_back(item.key(), item.value().detach());
  }
  for (const auto& item : model.named_buffers()) {
    tensors.emplace_back(item.key(), item.value().detach());
  }
  return tensors;
}

class Trainer {
 public:
  Trainer(Task& task, const TrainOptions& options, const RunOptions& run);
  TrainResult run();

 private:
  void resume_from(const LoadedCheckpoint& checkpoint);
  void load_weights(const std::map<std::string, at::Tensor>& tensors);
  void train_epoch();
  void train_step();
  void flush_loss();
  void log_interval();
  void close_epoch();
  void evaluate();
  bool save();
  NamedTensors optimizer_state() const;
  bool finished() const { return state_.step >= total_steps_; }
  bool stopping() const { return signal_received != 0 || finished(); }
  bool epoch_over() const { return state_.epoch_step >= steps_per_epoch_; }
  fs::path checkpoints() const { return run_.folder / "checkpoints"; }

  Task& task_;
  TrainOptions options_;
  RunOptions run_;
  c10::Device device_;
  int64_t steps_per_epoch_, total_steps_;
  Schedule schedule_;
  Optimizer optimizer_;
  TrainingStep step_;
  std::optional<WeightAverage> average_;
  std::optional<RunLog> log_;
  CheckpointState state_;
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
  std::tuple<double, int64_t, std::string> best_kept_;  // of the last checkpoint written
  int64_t evaluated_step_ = -1;
  std::string save_failure_;
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

// What a process that was killed in the middle of a write has left behind.
void remove_leftovers(const fs::path& folder) {
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with('.') && name.find(".tmp.") != std::string::npos) {
      std::error_code ignored;
      fs::remove_all(entry.path(), ignored);
    }
  }
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

Trainer::Trainer(Task& task, const TrainOptions& options, const RunOptions& run)
    : task_(task),
      options_(options),
      run_(run),
      device_(device_of(task.model())),
      steps_per_epoch_(task.steps_per_epoch()),
      total_steps_(planned_steps(options, steps_per_epoch_)),
      schedule_(make_schedule(options, steps_per_epoch_)),
      optimizer_(task.model(),
                 {.rule = update_rule_of(options.optimizer),
                  .update = {options.beta1, options.beta2, options.eps, options.momentum},
                  .weight_decay = options.weight_decay,
                  .clip_grad = options.clip_grad,
                  .decay_all = options.decay == "all",
                  .lr_scale = [&task](const std::string& name) { return task.lr_scale(name); }}),
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
  best_kept_ = {state_.best_metric, state_.best_epoch, state_.best_weights};
}

void Trainer::load_weights(const std::map<std::string, at::Tensor>& tensors) {
  const at::NoGradGuard no_grad;
  const auto load = [&](const std::string& name, at::Tensor target) {
    const auto found = tensors.find(name);
    COMBA_CHECK(found != tensors.end() && found->second.sizes() == target.sizes(),
                "restoring the weights: tensor {} is missing or has another shape (another model?)",
                name);
    target.copy_(found->second);
  };
  for (const auto& item : task_.model().named_parameters()) {
    load(item.key(), item.value());
  }
  for (const auto& item : task_.model().named_buffers()) {
    load(item.key(), item.value());
  }
}

void Trainer::resume_from(const LoadedCheckpoint& checkpoint) {
  COMBA_CHECK(checkpoint.state.data_fingerprint == state_.data_fingerprint,
              "resuming from {}: the training data has changed (fingerprint {}, expected {}); give "
              "the data "
              "the run was started with, or start a new run",
              checkpoint.path.string(), state_.data_fingerprint, checkpoint.state.data_fingerprint);
  if (checkpoint.state.config_hash != state_.config_hash) {
    log::warning(
        "resuming from {}: the configuration differs from the one the run was started with",
        checkpoint.path.string());
  }
  const std::string hash = state_.config_hash;
  state_ = checkpoint.state;
  state_.config_hash = hash;
  load_weights(checkpoint.model);
  optimizer_.load_state(checkpoint.optimizer);
  if (average_) {
    average_->load_state(checkpoint.ema.empty() ? checkpoint.model : checkpoint.ema,
                         state_.ema_updates);
  }
  const auto restore = [&](const char* name, const c10::Device& device) {
    const auto found = checkpoint.optimizer.find(name);
    if (found != checkpoint.optimizer.end()) {
      at::Generator generator = at::globalContext().defaultGenerator(device);
      generator.set_state(found->second);
    }
  };
  restore("rng.cpu", at::kCPU);
  if (device_.is_cuda()) {
    restore("rng.cuda", device_);
  }
  skipped_seen_ = optimizer_.skipped();
  best_kept_ = {state_.best_metric, state_.best_epoch, state_.best_weights};
  log::info("resuming from {}: step {} of {}", checkpoint.path.string(), state_.step, total_steps_);
}

NamedTensors Trainer::optimizer_state() const {
  NamedTensors state = optimizer_.state();
  state.emplace_back("rng.cpu", at::globalContext().defaultGenerator(at::kCPU).get_state());
  if (device_.is_cuda()) {
    state.emplace_back("rng.cuda", at::globalContext().defaultGenerator(device_).get_state());
  }
  return state;
}

TrainResult Trainer::run() {
  const SignalScope signals;
  fs::create_directories(checkpoints());
  remove_leftovers(checkpoints());
  std::optional<LoadedCheckpoint> checkpoint;
  if (run_.resume) {
    checkpoint = load_newest_checkpoint(checkpoints());
    if (checkpoint) {
      resume_from(*checkpoint);
    } else {
      log::warning("resuming {}: it has no checkpoint yet, starting from the beginning",
                   run_.folder.string());
    }
  }
  write_file_atomic(run_.folder / "config.toml", run_.config);
  log_.emplace(run_.folder, checkpoint ? state_.step : -1);
  checkpoint.reset();

  bool saved = true;
  while (!stopping() || (epoch_over() && !state_.epoch_closed)) {
    if (epoch_over() && state_.epoch_closed) {
      state_.epoch += 1;
      state_.epoch_step = 0;
      state_.epoch_closed = false;
      state_.epoch_loss_sum = 0.0;
    }
    train_epoch();
    if (signal_received == 0) {
      try {
        close_epoch();
      } catch (...) {  // what was trained is not lost with its evaluation
        save();
        throw;
      }
    }
    saved = save();
    if (signal_received != 0) {
      break;
    }
  }
  if (signal_received == 0 && evaluated_step_ != state_.step) {  // resumed a run that had ended
    evaluate();
  }
  result_.steps = state_.step;
  result_.best_metric = state_.best_metric;
  result_.best_epoch = state_.best_epoch;
  result_.best_weights = state_.best_weights;
  result_.signal = signal_received;
  if (trained_seconds_ > 0) {
    result_.images_per_second =
        static_cast<double>(trained_steps_ * task_.batch_size()) / trained_seconds_;
  }
  COMBA_CHECK(saved, "training ended at step {}, but its last checkpoint could not be written: {}",
              state_.step, save_failure_);
  return result_;
}

void Trainer::train_epoch() {
  if (epoch_over()) {
    return;  // stopped after the last step of an epoch, before its evaluation
  }
  task_.model().train();
  task_.start_epoch(state_.epoch, state_.epoch_step);
  std::optional<Progress> progress;
  if (isatty(STDERR_FILENO) != 0) {
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
// do not change the weights (Optimizer::step), so nothing is lost by noticing late.
void Trainer::flush_loss() {
  if (pending_steps_ == 0) {
    return;
  }
  const double sum = step_.take_loss();
  COMBA_CHECK(
      std::isfinite(sum),
      "training: the loss became {} in epoch {}, between steps {} and {}. Lower train.lr, set "
      "train.clip_grad, or look at the data (comba data check). Checkpoints before that step are "
      "in {}",
      sum, state_.epoch + 1, state_.step - pending_steps_ + 1, state_.step, checkpoints().string());
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
  log_->add(record);
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
  log_->add(record);
  state_.epoch_closed = epoch_over();
  if (!evaluated) {
    return;
  }
  log::info("epoch {}/{} evaluated: {}{}{}{}", state_.epoch + 1, options_.epochs,
            format_metrics(result_.last), result_.last_average.empty() ? "" : "  |  ",
            format_metrics(result_.last_average, "ema "), improved_ ? "  (best so far)" : "");
  log_->write_report(run_.title, run_.config, task_.report_sections());
}

// step-N is the checkpoint; last and best are further names of it. A failure is reported and training goes
// on; if the very last one fails, run() throws.
bool Trainer::save() {
  const fs::path path = checkpoints() / fmt::format("step-{}", state_.step);
  try {
    state_.ema_updates = average_ ? average_->updates() : 0;
    save_checkpoint(path, {.state = state_,
                           .model = weights_of(task_.model()),
                           .ema = average_ ? average_->state() : NamedTensors{},
                           .optimizer = optimizer_state(),
                           .metadata = task_.weights_metadata(),
                           .config = run_.config});
    if (improved_) {
      link_checkpoint(path, checkpoints() / "best");
    }
    link_checkpoint(path, checkpoints() / "last");
    prune_checkpoints(checkpoints(), options_.keep);
    save_failure_.clear();
    improved_ = false;
    best_kept_ = {state_.best_metric, state_.best_epoch, state_.best_weights};
    return true;
  } catch (const Error& error) {
    save_failure_ = error.what();
    log::error(
        "writing the checkpoint of step {} failed: {}. Training goes on; the older checkpoints are "
        "untouched",
        state_.step, save_failure_);
    improved_ = false;  // a best that was not kept does not count
    std::tie(state_.best_metric, state_.best_epoch, state_.best_weights) = best_kept_;
    return false;
  }
}

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
