// Starts this program several times, as the ranks of one training on this host.
#pragma once

#include <cstdint>

namespace comba::tools {

// Runs this process's command line `count` times, with the place of each in the environment (vision/engine/distributed.h), and
// waits for all. SIGINT and SIGTERM go on to them; one that dies ends the others, and all end with this process. Returns when
// all have ended well, else throws Error with the exit code of the first that has not: 130 or 143 after a signal.
void launch_ranks(int64_t count);

}  // namespace comba::tools
