#include "vision/engine/failed_step.h"

#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/log.h"
#include "vision/engine/checkpoint.h"
#include "vision/io/safetensors.h"

#include <ATen/core/grad_mode.h>

namespace comba::vision {
namespace fs = std::filesystem;
namespace {

constexpr size_t kNamesInLine = 3;

int64_t not_finite(const at::Tensor& tensor) {
  return tensor.isfinite().logical_not().sum().item<int64_t>();
}

struct Findings {
  double loss = 0.0;
  std::vector<std::string> tensors, lines;  // of gradients and inputs that are not finite
};

void look_at(Findings& findings, const std::string& name, const at::Tensor& tensor) {
  if (!tensor.is_floating_point()) {
    return;
  }
  if (const int64_t count = not_finite(tensor); count > 0) {
    findings.tensors.push_back(name);
    findings.lines.push_back(
        fmt::format("{}: {} of {} elements are not finite", name, count, tensor.numel()));
  }
}

// One forward and backward pass; the gradients are dropped again.
Findings go_through(Task& task, const std::vector<at::Tensor>& batch, Precision precision) {
  Findings findings;
  for (size_t i = 0; i < batch.size(); ++i) {
    look_at(findings, fmt::format("input {}", i), batch[i]);
  }
  at::Tensor loss;
  {
    const AutocastScope autocast(precision);
    loss = task.loss(batch);
  }
  loss.backward();
  findings.loss = loss.item<double>();
  for (auto& item : task.model().named_parameters()) {
    look_at(findings, "weight " + item.key(), item.value().detach());
    if (item.value().grad().defined()) {
      look_at(findings, "gradient of " + item.key(), item.value().grad());
      item.value().mutable_grad().reset();
    }
  }
  return findings;
}

std::string in_a_line(const Findings& findings) {
  std::string text = fmt::format("loss {}", findings.loss);
  const size_t all = findings.tensors.size();
  for (size_t i = 0; i < std::min(all, kNamesInLine); ++i) {
    text += ", " + findings.tensors[i];
  }
  return all > kNamesInLine ? fmt::format("{} and {} more", text, all - kNamesInLine) : text;
}

std::string report_of(const FailedStep& failed, const Findings& findings,
                      const std::vector<std::string>& names) {
  std::string text = fmt::format("step {}: epoch {}, batch {} of it\nloss {}\n", failed.step,
                                 failed.epoch + 1, failed.epoch_step + 1, findings.loss);
  for (const std::string& line : findings.lines) {
    text += line + "\n";
  }
  if (findings.lines.empty()) {
    text +=
        "no input, weight or gradient of this pass is without value: the failure depends on what "
        "is drawn "
        "anew (stochastic depth)\n";
  }
  for (size_t rank = 0; rank < names.size(); ++rank) {
    text += fmt::format("\nsamples of rank {}:\n{}", rank, names[rank]);
  }
  return text;
}

void write(const fs::path& folder, Task& task, const std::vector<at::Tensor>& batch,
           const std::string& report) {
  try {
    fs::create_directories(folder);
    write_file_atomic(folder / "report.txt", report);
    NamedTensors tensors;
    for (size_t i = 0; i < batch.size(); ++i) {
      tensors.emplace_back(fmt::format("input{}", i), batch[i].to(at::kCPU));
    }
    save_safetensors(folder / "batch.safetensors", tensors);
    save_safetensors(folder / "model.safetensors", weights_of(task.model()),
                     task.weights_metadata());
  } catch (const std::exception& error) {
    log::warning("keeping the batch of the failed step: {}", error.what());
  }
}

}  // namespace

std::string dump_failed_step(Task& task, const FailedStep& failed, Precision precision,
                             const fs::path& folder, Ranks& ranks) {
  task.model().train();
  task.start_epoch(failed.epoch, failed.epoch_step);
  const std::vector<at::Tensor> batch = task.next_batch();
  std::string names;
  for (const std::string& name : task.batch_names()) {
    names += name + "\n";
  }
  const Findings findings = go_through(task, batch, precision);
  const std::vector<std::string> all_names = ranks.gather(names);
  if (ranks.first()) {
    write(folder, task, batch, report_of(failed, findings, all_names));
  }
  return in_a_line(findings);
}

}  // namespace comba::vision
