// The second verb of comba bench, in a file of its own.
#pragma once

#include <CLI/CLI.hpp>

namespace comba::tools {

// comba bench track, a verb of comba bench.
void add_bench_track_command(CLI::App& bench);

}  // namespace comba::tools
