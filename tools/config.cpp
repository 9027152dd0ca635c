// comba config: the table of keys, or a resolved configuration.
#include "classify/config.h"

#include "classify/recall/config.h"
#include "tools/commands.h"
#include "tracking/config.h"

#include <memory>

#include <fmt/format.h>

namespace comba::tools {
namespace {

struct Arguments {
  std::string config, task = "classify";
  std::vector<std::string> assignments;
};

template <typename Config, typename Read, typename Declare>
void show(const Arguments& arguments, const Read& read, const Declare& declare) {
  Config config;
  if (!arguments.config.empty()) {
    fmt::print("{}", read(arguments.config, arguments.assignments, config));
    return;
  }
  ConfigTable table;
  declare(table, config);
  fmt::print("{}", table.describe());
}

void run(const Arguments& arguments) {
  const std::string task = arguments.config.empty()
                               ? arguments.task
                               : config_task(read_config_file(arguments.config), arguments.config);
  if (task == "track") {
    show<tracking::TrackConfig>(
        arguments, tracking::read_track_config,
        [](ConfigTable& table, tracking::TrackConfig& c) { tracking::declare(table, c); });
  } else if (task == "recall") {
    show<recall::RecallConfig>(
        arguments, recall::read_recall_config,
        [](ConfigTable& table, recall::RecallConfig& c) { recall::declare(table, c); });
  } else {
    show<classify::RunConfig>(
        arguments, classify::read_run_config,
        [](ConfigTable& table, classify::RunConfig& c) { classify::declare(table, c); });
  }
}

}  // namespace

void add_config_command(CLI::App& app) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand(
      "config", "Lists every configuration key, or prints a resolved configuration");
  command->add_option("CONFIG", arguments->config,
                      "TOML file to resolve; without it: the table of keys");
  command->add_option("--task", arguments->task, "whose keys to list: classify, track or recall")
      ->check(CLI::IsMember({"classify", "track", "recall"}));
  command->add_option("--set", arguments->assignments, "Overrides a key, e.g. --set train.lr=0.001")
      ->allow_extra_args(false);
  command->footer(
      "Examples:\n  comba config --task track\n  comba config configs/mnist5k.toml --set "
      "train.epochs=2");
  command->callback([arguments] { run(*arguments); });
}

}  // namespace comba::tools
