// Facts about the machine, the libraries and the GPUs for `comba check`, as (name, value) lines.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <c10/core/Device.h>

namespace comba::tools {

using Facts = std::vector<std::pair<std::string, std::string>>;

Facts machine_facts();
Facts library_facts();
Facts gpu_facts();
std::string gpu_name(const c10::Device& device);  // "" if it cannot be queried

// Of this process, all that is shared included.
struct ResidentMemory {
  double now_mib = 0.0, most_mib = 0.0;
};
ResidentMemory resident_memory();

}  // namespace comba::tools
