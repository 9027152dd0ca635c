// comba data synth: made-up data in the layouts of real benchmarks.
#include "datasets/synthetic_imagenet.h"
#include "tools/commands.h"
#include "tools/parse_numbers.h"
#include "tracking/synthetic_benchmark.h"
#include "vision/base/progress.h"

#include <iostream>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>

#include <fmt/format.h>

namespace comba::tools {
namespace {

struct Arguments {
  std::string folder, size = "640x480";
  tracking::SyntheticOptions options;
};

using Write = void (*)(const std::filesystem::path&, const tracking::SyntheticOptions&,
                       const std::function<void(int)>&);

void run(Arguments arguments, Write write) {
  tracking::SyntheticOptions& o = arguments.options;
  std::tie(o.width, o.height) = parse_size("--size", arguments.size, 64, 4096);
  Progress progress("drawing", o.sequences, "sequences");
  std::mutex mutex;
  write(arguments.folder, o, [&](int done) {
    const std::lock_guard lock(mutex);
    progress.update(done);
  });
  progress.finish();
  std::cout << fmt::format("{} sequences of {} frames are in {}\n", o.sequences, o.frames,
                           arguments.folder);
}

CLI::App* add_benchmark(CLI::App& synth, const char* name, const char* help, Write write) {
  CLI::App* command = synth.add_subcommand(name, help);
  const auto a = std::make_shared<Arguments>();
  command->add_option("FOLDER", a->folder, "New or empty")->required();
  command->add_option("--sequences", a->options.sequences)
      ->check(CLI::Range(1, 999999))
      ->capture_default_str();
  command->add_option("--frames", a->options.frames, "Of each sequence")
      ->check(CLI::Range(2, 1000000))
      ->capture_default_str();
  command->add_option("--size", a->size, "WIDTHxHEIGHT, px")->capture_default_str();
  command->add_option("--seed", a->options.seed, "Other seeds, other videos")
      ->capture_default_str();
  command
      ->add_option("--step", a->options.step,
                   "Time from one frame to the next: 2 is half as many frames a second")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_option("--photographs", a->options.photographs,
                      "A folder of pictures; backgrounds and things are cut from them as well");
  command->add_option("--quality", a->options.quality, "Of the JPEGs")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
  command->add_option("--threads", a->options.threads, "Default: all")->check(CLI::Range(1, 1024));
  if (std::string(name) == "got10k") {
    command->add_option("--split", a->options.split, "train, val or test (no annotations)")
        ->capture_default_str();
  }
  command->footer(
      fmt::format("Example: comba data synth {} synthetic --sequences 20 --frames 100", name));
  command->callback([a, write] { run(*a, write); });
  return command;
}

void run_imagenet(const std::string& folder, const datasets::SyntheticImagenetOptions& o) {
  Progress progress("drawing", o.classes * o.per_class + o.validation, "img");
  std::mutex mutex;
  datasets::write_synthetic_imagenet(folder, o, [&](int64_t done) {
    const std::lock_guard lock(mutex);
    progress.update(done);
  });
  progress.finish();
  std::cout << fmt::format("{} training images of {} classes and {} for validation are in {}\n",
                           o.classes * o.per_class, o.classes, o.validation, folder);
}

void add_imagenet(CLI::App& synth) {
  CLI::App* command =
      synth.add_subcommand("imagenet", "Labelled pictures in ImageNet's layout, unusual files too");
  const auto folder = std::make_shared<std::string>();
  const auto o = std::make_shared<datasets::SyntheticImagenetOptions>();
  command->add_option("FOLDER", *folder, "New or empty")->required();
  command->add_option("--classes", o->classes)->check(CLI::Range(1, 100000))->capture_default_str();
  command->add_option("--per-class", o->per_class, "Training images of each class")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  command->add_option("--val", o->validation, "Validation images")
      ->check(CLI::Range(0, 10000000))
      ->capture_default_str();
  command->add_option("--seed", o->seed, "Other seeds, other pictures")->capture_default_str();
  command->add_option("--threads", o->threads, "Default: all")->check(CLI::Range(1, 1024));
  command->footer("Example: comba data synth imagenet synthetic --classes 100 --per-class 100");
  command->callback([folder, o] { run_imagenet(*folder, *o); });
}

}  // namespace

void add_data_synth_command(CLI::App& data) {
  CLI::App* synth = data.add_subcommand(
      "synth", "Makes labelled pictures, or videos of a moving sprite, in a benchmark's layout");
  synth->require_subcommand(1);
  add_benchmark(*synth, "got10k", "GOT-10k's layout", &tracking::write_synthetic_got10k);
  add_imagenet(*synth);
  add_benchmark(*synth, "lasot", "LaSOT's layout", &tracking::write_synthetic_lasot);
}

}  // namespace comba::tools
