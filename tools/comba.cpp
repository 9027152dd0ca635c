// comba: trains, evaluates and runs vision models whose mixer is the Comba recurrence.
#include "tools/commands.h"
#include "vision/base/error.h"
#include "vision/base/log.h"

#include <exception>

#include <c10/util/Exception.h>

int main(int argc, char** argv) {
  CLI::App app{"Trains, evaluates and runs vision models built on the Comba recurrence."};
  app.require_subcommand(1);
  app.set_version_flag("--version", "comba " COMBA_VERSION);
  app.footer(
      "Start with:  comba train configs/mnist5k.toml\nEach command explains itself: comba COMMAND "
      "--help");
  comba::tools::add_train_command(app);
  comba::tools::add_eval_command(app);
  comba::tools::add_predict_command(app);
  comba::tools::add_info_command(app);
  comba::tools::add_config_command(app);
  comba::tools::add_data_command(app);
  comba::tools::add_check_command(app);
  comba::tools::add_bench_command(app);
  comba::tools::add_score_command(app);
  comba::tools::add_track_commands(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    app.exit(error);
    return comba::kExitUsage;
  } catch (const comba::Error& error) {
    comba::log::error("{}", error.what());
    comba::log::debug("raised at {}", error.where());
    return error.exit_code();
  } catch (const c10::Error& error) {
    comba::log::error("{}", error.what_without_backtrace());
    comba::log::debug("{}", error.what());
    return comba::kExitRuntime;
  } catch (const std::exception& error) {
    comba::log::error("{}", error.what());
    return comba::kExitRuntime;
  }
  return comba::kExitOk;
}
