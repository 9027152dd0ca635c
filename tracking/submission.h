// GOT-10k's submission: a zip with <sequence>/<sequence>_001.txt (boxes x,y,w,h, "%.3f", comma; up to three repetitions) and
// <sequence>/<sequence>_time.txt (seconds a frame, "%.8f", one column a repetition) for the 180 test sequences, at its root
// or in one folder. The server says little about what it does not like: we check here.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace comba::tracking {

// Packs a tracker's results of the test sequences, from any layout that find_results() knows. Whole or not at all. Throws
// Error naming what is missing or broken.
void pack_submission(const std::filesystem::path& results, const std::filesystem::path& zip);

// Everything that is wrong with a submission, a line each; empty if it can be sent. `test_folder`: GOT-10k's test split, for
// the numbers of frames and the first boxes; or empty.
std::vector<std::string> submission_problems(const std::filesystem::path& zip,
                                             const std::filesystem::path& test_folder);

}  // namespace comba::tracking
