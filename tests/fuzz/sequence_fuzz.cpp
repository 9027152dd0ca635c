// A GOT-10k and a LaSOT folder whose files are pieces of the input, through the readers of annotations and results.
#include "tests/fuzz/fuzz_files.h"
#include "tracking/benchmark.h"
#include "tracking/got10k_score.h"
#include "tracking/score.h"
#include "vision/base/error.h"

#include <array>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

namespace fs = std::filesystem;

namespace {

const fs::path kRoot = std::getenv("COMBA_FUZZ_FOLDER");  // of this process alone

// Pieces are separated by a zero byte; missing ones are empty.
template <size_t kCount>
void write_pieces(std::string_view text, const std::array<const char*, kCount>& files) {
  for (const char* file : files) {
    const size_t end = text.find('\0');
    std::ofstream(kRoot / file, std::ios::binary) << text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  }
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  fs::create_directories(kRoot / "got/A");
  fs::create_directories(kRoot / "lasot/a/a-1");
  fs::create_directories(kRoot / "results/A");
  std::ofstream(kRoot / "got/list.txt") << "A\n";
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace comba::tracking;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  write_pieces<4>(text, {"got/A/groundtruth.txt", "got/A/cover.label", "got/A/meta_info.ini",
                         "results/A/A_001.txt"});
  comba::fuzz::guarded([] {
    score_got10k(read_got10k(kRoot / "got"), {"fuzz", kRoot / "results"}, {.threads = 1});
  });
  write_pieces<4>(text, {"lasot/a/a-1/groundtruth.txt", "lasot/a/a-1/full_occlusion.txt",
                         "lasot/a/a-1/out_of_view.txt", "results/a-1.txt"});
  for (const LasotProtocol protocol :
       {LasotProtocol::got10k, LasotProtocol::lasot_matlab, LasotProtocol::pytracking}) {
    comba::fuzz::guarded([&] {
      score_lasot(read_lasot(kRoot / "lasot"), {"fuzz", kRoot / "results"}, protocol,
                  {.threads = 1});
    });
  }
  return 0;
}
