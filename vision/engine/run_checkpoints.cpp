#include "vision/engine/run_checkpoints.h"

#include "vision/base/error.h"
#include "vision/base/log.h"
#include "vision/engine/rank_checks.h"

#include <utility>

#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>

namespace comba::vision {
namespace fs = std::filesystem;
namespace {

// Random numbers of LibTorch's that belong to a batch are drawn for all of it on every rank, so their generators are the same
// on all.
constexpr const char* kGenerators[] = {"rng.cpu", "rng.cuda"};

at::Generator generator_of(const std::string& name, const c10::Device& device) {
  return at::globalContext().defaultGenerator(name == "rng.cpu" ? c10::Device(c10::kCPU) : device);
}

std::map<std::string, at::Tensor> by_name(const NamedTensors& tensors) {
  return {tensors.begin(), tensors.end()};
}

}  // namespace

RunCheckpoints::RunCheckpoints(const RunParts& parts, fs::path folder, std::string config,
                               int64_t keep, std::shared_ptr<Ranks> ranks)
    : parts_(parts),
      folder_(std::move(folder)),
      config_(std::move(config)),
      keep_(keep),
      ranks_(std::move(ranks)),
      best_kept_(parts.state.best_metric, parts.state.best_epoch, parts.state.best_weights) {}

c10::Device RunCheckpoints::device() const {
  return parts_.task.model().parameters().front().device();
}

void RunCheckpoints::prepare() {
  if (!ranks_->first()) {
    return;
  }
  fs::create_directories(folder());
  for (const auto& entry : fs::directory_iterator(folder())) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with('.') && name.find(".tmp.") != std::string::npos) {
      std::error_code ignored;
      fs::remove_all(entry.path(), ignored);
    }
  }
}

std::string RunCheckpoints::resume() {
  std::string found;
  if (ranks_->first()) {
    if (const auto checkpoint = load_newest_checkpoint(folder())) {
      take_over(*checkpoint);
      restore_names(*checkpoint);
      found = checkpoint->path.string();
    } else {
      log::warning("resuming {}: it has no checkpoint yet, starting from the beginning",
                   folder_.string());
    }
  }
  found = ranks_->broadcast(found);
  if (found.empty()) {
    return found;
  }
  if (ranks_->size() > 1) {
    share();
  }
  const CheckpointState& state = parts_.state;
  best_kept_ = {state.best_metric, state.best_epoch, state.best_weights};
  return found;
}

void RunCheckpoints::take_over(const LoadedCheckpoint& checkpoint) {
  CheckpointState& state = parts_.state;
  COMBA_CHECK(checkpoint.state.data_fingerprint == state.data_fingerprint,
              "resuming from {}: the training data has changed (fingerprint {}, expected {}); give "
              "the data the run was started with, or start a new run",
              checkpoint.path.string(), state.data_fingerprint, checkpoint.state.data_fingerprint);
  if (checkpoint.state.config_hash != state.config_hash) {
    log::warning(
        "resuming from {}: the configuration differs from the one the run was started with",
        checkpoint.path.string());
  }
  const std::string hash = state.config_hash;
  state = checkpoint.state;
  state.config_hash = hash;
  load_weights(checkpoint.model);
  parts_.optimizer.load_state(checkpoint.optimizer);
  if (parts_.average) {
    parts_.average->load_state(checkpoint.ema.empty() ? checkpoint.model : checkpoint.ema,
                               state.ema_updates);
  }
  for (const char* name : kGenerators) {
    const auto found = checkpoint.optimizer.find(name);
    if (found != checkpoint.optimizer.end() && (name != kGenerators[1] || device().is_cuda())) {
      generator_of(name, device()).set_state(found->second);
    }
  }
}

// A process killed between writing a checkpoint and naming it has left `last`, and `best` if it was that, to older ones.
void RunCheckpoints::restore_names(const LoadedCheckpoint& checkpoint) {
  const CheckpointState& state = checkpoint.state;
  const auto name = [&](const char* as) {
    if (checkpoint.path.filename() != as) {
      link_checkpoint(checkpoint.path, folder() / as);
    }
  };
  const auto is_best = [&] {
    try {
      return verify_checkpoint(folder() / "best").best_metric == state.best_metric;
    } catch (const Error&) {  // there is none, or it is damaged
      return false;
    }
  };
  try {
    name("last");
    if (state.best_epoch >= 0 && state.best_epoch == state.epoch && !is_best()) {
      name("best");
    }
  } catch (const Error& error) {
    log::warning("{}; training goes on from {}", error.what(), checkpoint.path.string());
  }
}

// What rank 0 has taken over, to the others: they need not see its disk.
void RunCheckpoints::share() {
  const at::NoGradGuard no_grad;
  parts_.state = state_of(ranks_->broadcast(to_text(parts_.state)));
  const auto all = [&](const NamedTensors& tensors) {
    for (const auto& [name, tensor] : tensors) {
      at::Tensor whole = tensor.contiguous();
      ranks_->broadcast(whole);
      if (!whole.is_same(tensor)) {
        at::Tensor(tensor).copy_(whole);
      }
    }
  };
  all(weights_of(parts_.task.model()));
  const NamedTensors optimizer = optimizer_state();
  all(optimizer);
  for (const auto& [name, tensor] : optimizer) {
    if (name == kGenerators[0] || name == kGenerators[1]) {
      generator_of(name, device()).set_state(tensor);
    }
  }
  if (parts_.average) {
    const NamedTensors average = parts_.average->state();
    all(average);
    parts_.average->load_state(by_name(average), parts_.state.ema_updates);
  }
}

void RunCheckpoints::load_weights(const std::map<std::string, at::Tensor>& tensors) {
  const at::NoGradGuard no_grad;
  for (const auto& [name, target] : weights_of(parts_.task.model())) {
    const auto found = tensors.find(name);
    COMBA_CHECK(found != tensors.end() && found->second.sizes() == target.sizes(),
                "restoring the weights: tensor {} is missing or has another shape (another model?)",
                name);
    at::Tensor(target).copy_(found->second);
  }
}

NamedTensors RunCheckpoints::optimizer_state() const {
  NamedTensors state = parts_.optimizer.state();
  for (const char* name : kGenerators) {
    if (name != kGenerators[1] || device().is_cuda()) {
      state.emplace_back(name, generator_of(name, device()).get_state());
    }
  }
  return state;
}

bool RunCheckpoints::save(bool best) {
  // What is kept is what all of them have.
  check_equal_weights(*ranks_, parts_.task.model(),
                      fmt::format("after step {}", parts_.state.step));
  return save_alone(best);
}

bool RunCheckpoints::write(bool best) {
  CheckpointState& state = parts_.state;
  const fs::path path = folder() / fmt::format("step-{}", state.step);
  try {
    state.ema_updates = parts_.average ? parts_.average->updates() : 0;
    save_checkpoint(path, {.state = state,
                           .model = weights_of(parts_.task.model()),
                           .ema = parts_.average ? parts_.average->state() : NamedTensors{},
                           .optimizer = optimizer_state(),
                           .metadata = parts_.task.weights_metadata(),
                           .config = config_});
    if (best) {
      link_checkpoint(path, folder() / "best");
    }
    link_checkpoint(path, folder() / "last");
    prune_checkpoints(folder(), keep_);
    failure_.clear();
    best_kept_ = {state.best_metric, state.best_epoch, state.best_weights};
    return true;
  } catch (const Error& error) {
    failure_ = error.what();
    log::error(
        "writing the checkpoint of step {} failed: {}. Training goes on; the older checkpoints are "
        "untouched",
        state.step, failure_);
    // A best that was not kept does not count.
    std::tie(state.best_metric, state.best_epoch, state.best_weights) = best_kept_;
    return false;
  }
}

}  // namespace comba::vision
