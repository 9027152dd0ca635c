// comba train: configuration in, run folder out.
#include "classify/recall/task.h"
#include "classify/task.h"
#include "tools/commands.h"
#include "tools/launch_ranks.h"
#include "tracking/task.h"
#include "vision/base/error.h"
#include "vision/base/log.h"
#include "vision/engine/distributed.h"
#include "vision/engine/precision.h"
#include "vision/engine/trainer.h"

#include <charconv>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <c10/core/impl/VirtualGuardImpl.h>

namespace comba::tools {
namespace fs = std::filesystem;
namespace {

struct Arguments {
  std::string config;
  std::vector<std::string> set;
  std::string run;
  std::string device = "auto";
  bool resume = false;
  int64_t gpus = 0;
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

// Of a rank: the GPU of its place on the host.
c10::Device choose_device(const Arguments& arguments,
                          const std::optional<vision::RankPlace>& place) {
  if (!place || arguments.device == "cpu") {
    return vision::choose_device(arguments.device);
  }
  if (arguments.device != "auto" && arguments.device != "cuda") {
    throw UsageError(fmt::format(
        "--device {}: each of {} ranks takes the GPU of its number on its host; expected auto, "
        "cuda or cpu (CUDA_VISIBLE_DEVICES picks GPUs)",
        arguments.device, place->size));
  }
  const c10::Device device = vision::choose_device(fmt::format("cuda:{}", place->local_rank));
  c10::impl::VirtualGuardImpl(device.type()).setDevice(device);
  return device;
}

// Its share of the host's cores, where the configuration does not say how many threads.
template <typename Config>
void share_cores(Config& config, const std::optional<vision::RankPlace>& place) {
  if (!place) {
    return;
  }
  const int64_t cores = std::thread::hardware_concurrency();
  const int64_t share = std::max<int64_t>(1, cores / place->local_size);
  for (int64_t* threads : {&config.data.threads, &config.train.threads}) {
    *threads = *threads > 0 ? *threads : share;
  }
}

// Ranks share out a batch, and may take their shares in parts.
void check_batch_size(const vision::TrainOptions& train, int64_t ranks) {
  const int64_t batch = train.batch_size;
  if (batch % ranks == 0) {
    if (batch / ranks % train.accumulate == 0) {
      return;
    }
    throw UsageError(fmt::format(
        "train.accumulate = {}: expected a divisor of the {} images that a rank takes a step",
        train.accumulate, batch / ranks));
  }
  const int64_t less = batch / ranks * ranks, more = less + ranks;
  throw UsageError(
      fmt::format("train.batch_size = {}: it is of all ranks together, and {} ranks cannot share "
                  "it out evenly; take {}{}, or another number of ranks",
                  batch, ranks, less > 0 ? fmt::format("{} or ", less) : "", more));
}

// `Task` of the configuration that `read` reads.
template <typename Task, typename Config, typename Read>
Job open_task(const Read& read, const Arguments& arguments,
              const std::optional<vision::RankPlace>& place, const c10::Device& device,
              const std::shared_ptr<vision::Ranks>& ranks) {
  Config config;
  Job job;
  job.resolved = read(arguments.config, arguments.set, config);
  check_batch_size(config.train, ranks->size());
  share_cores(config, place);
  job.task = std::make_unique<Task>(config, device, ranks);
  job.train = config.train;
  job.seed = config.seed;
  return job;
}

std::string task_of(const Arguments& arguments) {
  return config_task(read_config_file(arguments.config), arguments.config);
}

Job open_job(const Arguments& arguments, const std::optional<vision::RankPlace>& place,
             const c10::Device& device, const std::shared_ptr<vision::Ranks>& ranks) {
  const std::string task = task_of(arguments);
  if (task == "track") {
    return open_task<tracking::TrackTask, tracking::TrackConfig>(tracking::read_track_config,
                                                                 arguments, place, device, ranks);
  }
  if (task == "recall") {
    return open_task<recall::RecallTask, recall::RecallConfig>(recall::read_recall_config,
                                                               arguments, place, device, ranks);
  }
  return open_task<classify::ClassifyTask, classify::RunConfig>(classify::read_run_config,
                                                                arguments, place, device, ranks);
}

std::string describe_rate(const vision::TrainOptions& train) {
  const std::string peak =
      fmt::format("peak lr {:.3g} at {} images per step", train.peak_lr(), train.batch_size);
  return train.lr_batch > 0
             ? fmt::format("{} ({:.3g} for {} of them)", peak, train.lr, train.lr_batch)
             : peak;
}

void train_as(const Arguments& arguments, const std::optional<vision::RankPlace>& place,
              const std::shared_ptr<vision::Ranks>& ranks, const c10::Device& device) {
  // Before the folder exists: wrong data paths leave no trace.
  const fs::path run = ranks->first() ? choose_run_folder(arguments) : fs::path();
  const Job job = open_job(arguments, place, device, ranks);
  if (ranks->first()) {
    fs::create_directories(run);
    log::set_file((run / "log.txt").string());
  }
  int64_t parameters = 0;
  for (const auto& parameter : job.task->model().parameters()) {
    parameters += parameter.numel();
  }
  log::info("run {}: {} parameters on {}{}, {} steps an epoch, {}", run.string(), parameters,
            job.task->model().parameters()[0].device().str(),
            place ? fmt::format(" and {} ranks", place->size) : "", job.task->steps_per_epoch(),
            describe_rate(job.train));
  const vision::TrainResult result =
      vision::train(*job.task, job.train,
                    {.folder = run,
                     .title = fmt::format("{} ({})", fs::path(arguments.config).stem().string(),
                                          run.filename().string()),
                     .config = job.resolved,
                     .seed = job.seed,
                     .resume = arguments.resume,
                     .ranks = ranks});
  ranks->leave();
  if (result.signal != 0) {
    throw Interrupted(
        ranks->first()
            ? fmt::format("stopped by signal {} after step {}; the state is saved. Go on "
                          "with: comba train {} --run {} --resume",
                          result.signal, result.steps, arguments.config, run.string())
            : fmt::format("stopped after step {}", result.steps),
        result.signal);
  }
  if (ranks->first()) {
    print_result(result, job.task->primary_metric(), run);
  }
}

// Rank 0 speaks for all; of the others only what goes wrong is heard.
void speak_as(int64_t rank) {
  if (rank > 0) {
    log::set_level(log::Level::warning);
    log::set_sink([rank](log::Level, std::string_view line) {
      fmt::print(stderr, "[rank {}] {}\n", rank, line);
    });
  }
}

template <typename Config, typename Read>
vision::TrainOptions read_train_options(const Read& read, const Arguments& arguments) {
  Config config;
  read(arguments.config, arguments.set, config);
  return config.train;
}

// What is wrong with the arguments is said once, not by every rank.
void check_before_launch(const Arguments& arguments) {
  choose_run_folder(arguments);
  const std::string task = task_of(arguments);
  check_batch_size(
      task == "track"
          ? read_train_options<tracking::TrackConfig>(tracking::read_track_config, arguments)
      : task == "recall"
          ? read_train_options<recall::RecallConfig>(recall::read_recall_config, arguments)
          : read_train_options<classify::RunConfig>(classify::read_run_config, arguments),
      arguments.gpus);
}

void run_train(const Arguments& arguments) {
  const std::optional<vision::RankPlace> place = vision::rank_place();
  if (!place && arguments.gpus > 1) {
    check_before_launch(arguments);
    return launch_ranks(arguments.gpus);
  }
  if (!place) {
    return train_as(arguments, place, vision::alone(), choose_device(arguments, place));
  }
  speak_as(place->rank);
  const c10::Device device = choose_device(arguments, place);
  const std::shared_ptr<vision::Ranks> ranks = vision::join_ranks(*place, device);
  try {
    train_as(arguments, place, ranks, device);
  } catch (const Interrupted&) {
    throw;
  } catch (const c10::Error& error) {
    ranks->fail(error.what_without_backtrace());
    throw;
  } catch (const std::exception& error) {
    ranks->fail(error.what());
    throw;
  }
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
  command
      ->add_option("--gpus", arguments->gpus,
                   "GPUs of this host to train on, a process each; train.batch_size is of all "
                   "together (with --device cpu: as many processes on the processor)")
      ->check(CLI::Range(1, 1024));
  command->footer(
      "A run folder holds config.toml, log.txt, results.csv, metrics.jsonl, report.html and\n"
      "checkpoints/{best,last,step-N}. Ctrl-C saves a checkpoint and ends; --resume goes on.\n"
      "Several hosts: torchrun --nnodes 2 --nproc-per-node 8 ... --no-python -- comba train "
      "CONFIG.\n"
      "Every key: comba config.   Example: comba train configs/mnist5k.toml --set seed=1");
  command->callback([arguments] { run_train(*arguments); });
}

}  // namespace comba::tools
