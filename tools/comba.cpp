// comba: trains, evaluates and runs vision models whose mixer is the Comba recurrence.
#include "tools/commands.h"
#include "vision/base/error.h"
#include "vision/base/log.h"

#include <exception>

#include <c10/util/Exception.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace {

// LibTorch takes every intermediate result on the CPU from malloc, which by default gives large ones back to the system at
// once: touching new pages again took a sixth of a tracker's frame.
void keep_freed_memory() {
#ifdef __GLIBC__
  constexpr int kLargest = 32 << 20,
                kSpare = 256 << 20;  // glibc takes no higher threshold than this
  mallopt(M_MMAP_THRESHOLD, kLargest);
  mallopt(M_TRIM_THRESHOLD, kSpare);
  mallopt(M_TOP_PAD, kLargest);
#endif
}

// Last of all: a subcommand begins with the footer that its parent has at that time.
void add_footers(CLI::App& app) {
  app.footer(
      "Start with:  comba train configs/mnist5k.toml\nEach command explains itself: comba COMMAND "
      "--help");
  for (CLI::App* command : app.get_subcommands(nullptr)) {
    if (!command->get_subcommands(nullptr).empty()) {
      command->footer("Each of them explains itself: comba " + command->get_name() +
                      " SUBCOMMAND --help");
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  keep_freed_memory();
  CLI::App app{"Trains, evaluates and runs vision models built on the Comba recurrence.", "comba"};
  app.require_subcommand(1);
  app.set_version_flag("--version", "comba " COMBA_VERSION);
  comba::tools::add_train_command(app);
  comba::tools::add_eval_command(app);
  comba::tools::add_predict_command(app);
  comba::tools::add_compare_command(app);
  comba::tools::add_export_command(app);
  comba::tools::add_info_command(app);
  comba::tools::add_config_command(app);
  comba::tools::add_data_command(app);
  comba::tools::add_check_command(app);
  comba::tools::add_bench_command(app);
  comba::tools::add_score_command(app);
  comba::tools::add_track_commands(app);
  comba::tools::add_completion_command(app);
  add_footers(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked) {  // --help, --version
    return app.exit(asked);
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
