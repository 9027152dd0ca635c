// comba train: configuration in, run folder out.
#include "classify/task.h"
#include "tools/commands.h"
#include "tracking/task.h"
#include "vision/base/error.h"
#include "vision/base/log.h"
#include "vision/engine/precision.h"
#include "vision/engine/trainer.h"

#include <charconv>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

namespace comba::tools {
namespace fs = std::filesystem;
namespace {

struct Arguments {
  std::string config;
  std::vector<std::string> set;
  std::string run;
  std::string device = "auto";
  bool resume = false;
};

// The run was stopped by a signal after it had saved its state.
class Interrupted : public Error {
 public:
  Interrupted(const std::string& message, int signal) : Error(message), signal_(signal) {}
  ExitCode exit_code() const override { return static_cast<ExitCode>(128 + signal_); }

 private:
  int signal_;
};

// The largest N of runs/<name>-N, or 0.
int64_t last_run_number(const fs::path& runs, const std::string& name) {
  int64_t last = 0;
  std::error_code absent;
  for (const auto& entry : fs::directory_iterator(runs, absent)) {
    const std::string folder = entry.path().filename().string();
    if (!folder.starts_with(name + "-")) {
      continue;
    }
    int64_t number = 0;
    const char* end = folder.data() + folder.size();
    const auto [rest, error] = std::from_chars(folder.data() + name.size() + 1, end, number);
    if (error == std::errc() && rest == end) {
      last = std::max(last, number);
    }
  }
  return last;
}

fs::path choose_run_folder(const Arguments& arguments) {
  const std::string name = fs::path(arguments.config).stem().string();
  if (!arguments.run.empty()) {
    const bool used = fs::exists(fs::path(arguments.run) / "checkpoints");
    if (used && !arguments.resume) {
      throw UsageError(
          fmt::format("--run {}: the folder already holds a run; add --resume to go on with it, "
                      "or name another",
                      arguments.run));
    }
    return arguments.run;
  }
  const int64_t last = last_run_number("runs", name);
  if (arguments.resume && last == 0) {
    throw UsageError(fmt::format(
        "--resume: there is no runs/{}-N to go on with; name the run with --run", name));
  }
  return fs::path("runs") / fmt::format("{}-{}", name, arguments.resume ? last : last + 1);
}

std::string describe(const vision::Metrics& metrics) {
  std::string text;
  for (const auto& [name, value] : metrics) {
    text += fmt::format("{}{} {:.4g}", text.empty() ? "" : ", ", name, value);
  }
  return text;
}

void print_result(const vision::TrainResult& result, const std::string& metric,
                  const fs::path& run) {
  std::cout << fmt::format("trained      {} steps, {:.0f} img/s\n", result.steps,
                           result.images_per_second);
  std::cout << fmt::format("last epoch   {}\n", describe(result.last));
  if (!result.last_average.empty()) {
    std::cout << fmt::format("  averaged   {}\n", describe(result.last_average));
  }
  std::cout << fmt::format("best {:<7} {:.4g} (epoch {}, {} weights)\n", metric, result.best_metric,
                           result.best_epoch + 1, result.best_weights);
  const fs::path best = run / "checkpoints" / "best";
  std::cout << fmt::format("report       {}\n", (run / "report.html").string());
  std::cout << fmt::format(
      "weights      {}\n",
      (best / (result.best_weights == "ema" ? "ema.safetensors" : "model.safetensors")).string());
  std::cout << fmt::format("next         comba eval {}\n", run.string()) << std::flush;
}

// A task and what its configuration says of the training.
struct Job {
  std::unique_ptr<vision::Task> task;
  vision::TrainOptions train;
  std::string resolved;  // the configuration
  int64_t seed = 0;
};

Job open_job(const Arguments& arguments) {
  const c10::Device device = vision::choose_device(arguments.device);
  Job job;
  if (config_task(read_config_file(arguments.config), arguments.config) == "track") {
    tracking::TrackConfig config;
    job.resolved = tracking::read_track_config(arguments.config, arguments.set, config);
    job.task = std::make_unique<tracking::TrackTask>(config, device);
    job.train = config.train;
    job.seed = config.seed;
  } else {
    classify::RunConfig config;
    job.resolved = classify::read_run_config(arguments.config, arguments.set, config);
    job.task = std::make_unique<classify::ClassifyTask>(config, device);
    job.train = config.train;
    job.seed = config.seed;
  }
  return job;
}

void run_train(const Arguments& arguments) {
  const fs::path run = choose_run_folder(arguments);
  const Job job = open_job(arguments);  // before the folder exists: wrong data paths leave no trace
  fs::create_directories(run);
  log::set_file((run / "log.txt").string());
  int64_t parameters = 0;
  for (const auto& parameter : job.task->model().parameters()) {
    parameters += parameter.numel();
  }
  log::info("run {}: {} parameters on {}, {} steps an epoch, peak lr {:.3g} at {} images per step",
            run.string(), parameters, job.task->model().parameters()[0].device().str(),
            job.task->steps_per_epoch(), job.train.peak_lr(), job.train.batch_size);
  const vision::TrainResult result =
      vision::train(*job.task, job.train,
                    {.folder = run,
                     .title = fmt::format("{} ({})", fs::path(arguments.config).stem().string(),
                                          run.filename().string()),
                     .config = job.resolved,
                     .seed = job.seed,
                     .resume = arguments.resume});
  if (result.signal != 0) {
    throw Interrupted(
        fmt::format("stopped by signal {} after step {}; the state is saved. Go on with: comba "
                    "train {} --run {} --resume",
                    result.signal, result.steps, arguments.config, run.string()),
        result.signal);
  }
  print_result(result, job.task->primary_metric(), run);
}

}  // namespace

void add_train_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("train", "Train the model a config file describes");
  auto arguments = std::make_shared<Arguments>();
  command->add_option("CONFIG", arguments->config, "TOML file, e.g. configs/mnist5k.toml")
      ->required();
  command
      ->add_option("--set", arguments->set, "override a key, e.g. --set train.lr=1e-3 (repeatable)")
      ->allow_extra_args(false);
  command->add_option("--run", arguments->run,
                      "folder of this run (default: runs/<config name>-N)");
  command->add_flag("--resume", arguments->resume,
                    "go on from the newest valid checkpoint of the run");
  command->add_option("--device", arguments->device,
                      "auto (CUDA if there is one), cpu, cuda or cuda:N");
  command->footer(
      "A run folder holds config.toml, log.txt, results.csv, metrics.jsonl, report.html and\n"
      "checkpoints/{best,last,step-N}. Ctrl-C saves a checkpoint and ends; --resume goes on.\n"
      "Every key: comba config.   Example: comba train configs/mnist5k.toml --set seed=1");
  command->callback([arguments] { run_train(*arguments); });
}

}  // namespace comba::tools
