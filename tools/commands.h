// One function per subcommand: declares its arguments on `app` and installs the callback that runs it.
// Callbacks throw comba::Error; main turns that into a message and an exit code.
#pragma once

#include <CLI/CLI.hpp>

namespace comba::tools {

void add_train_command(CLI::App& app);
void add_eval_command(CLI::App& app);
void add_predict_command(CLI::App& app);
void add_compare_command(CLI::App& app);
void add_export_command(CLI::App& app);
void add_info_command(CLI::App& app);
void add_config_command(CLI::App& app);
void add_data_command(CLI::App& app);
void add_data_synth_command(CLI::App& data);  // a verb of the one above
void add_check_command(CLI::App& app);
void add_completion_command(CLI::App& app);
void add_bench_command(CLI::App& app);
void add_bench_augment_command(CLI::App& bench);  // verbs of the one above
void add_bench_loader_command(CLI::App& bench);
void add_bench_model_command(CLI::App& bench);
void add_score_command(CLI::App& app);
void add_track_commands(CLI::App& app);  // track and webcam

}  // namespace comba::tools
