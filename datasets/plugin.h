// Libraries of our own that are loaded when first needed, so that the program itself does not pull in what they link.
#pragma once

#include <string>

namespace comba::datasets {

// The function `entry` of `library`, looked for beside the executable, in lib/ beside its bin/, in the build tree, and
// wherever the loader looks. Throws Error saying what it is needed `for` and what to install.
void* load_plugin(const std::string& library, const std::string& entry, const std::string& purpose,
                  const std::string& remedy);

}  // namespace comba::datasets
