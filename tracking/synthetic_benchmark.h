// Made-up sequences (datasets/synthetic_scene.h) in the official layouts of GOT-10k and LaSOT, boxes counted from 1 as
// theirs are: for tests, benchmarks, and training where there is no data.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace comba::tracking {

struct SyntheticOptions {
  uint64_t seed = 0;
  int sequences = 20, frames = 100, width = 640, height = 480;
  int step = 1;             // time from one frame to the next
  int quality = 92;         // of the JPEGs
  std::string photographs;  // a folder of pictures that surfaces are cut from; empty: all is drawn
  int threads = 0;          // 0: all
  std::string split = "train";  // GOT-10k: train, val or test (one box a sequence, no labels)
};

// Fills `folder`, which must not exist or be empty: a sequence at a time, the list of names last. `done` is told the number
// of finished sequences, from any thread.
void write_synthetic_got10k(const std::filesystem::path& folder, const SyntheticOptions& options,
                            const std::function<void(int)>& done);
void write_synthetic_lasot(const std::filesystem::path& folder, const SyntheticOptions& options,
                           const std::function<void(int)>& done);

}  // namespace comba::tracking
