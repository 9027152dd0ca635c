// The index of a pack, whatever is in it: images that lie in their shards, or an Error. Its checksum is made right, or nothing
// would be read behind it.
#include "datasets/pack.h"
#include "tests/fuzz/fuzz_files.h"
#include "vision/base/error.h"

#include <cstring>

namespace {

const std::filesystem::path kIndex = comba::fuzz::folder() / "p.pack";
constexpr size_t kHeader = 64, kChecksum = 12;

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  for (const char* attachment : {"", "attached"}) {
    comba::datasets::PackWriter writer(kIndex, {"cat", "dog"});
    writer.add("first image", 5, 6, 0, "a.jpg");
    writer.add("second image", 7, 8, 1, "b.jpg");
    writer.add_again(0);
    writer.finish(attachment);
    comba::fuzz::add_to_corpus(std::string("pack") + attachment, comba::read_file(kIndex));
  }
  return 0;  // the shard stays
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string index(reinterpret_cast<const char*>(data), size);
  if (size >= kHeader) {
    const uint32_t crc = comba::crc32c({data + kHeader, size - kHeader});
    std::memcpy(index.data() + kChecksum, &crc, sizeof crc);
  }
  comba::fuzz::write(kIndex, index);
  try {
    const auto pack = comba::datasets::open_pack(kIndex);
    for (int64_t i = 0; i < pack->size(); ++i) {
      if (pack->label(i) < 0 || pack->label(i) >= static_cast<int64_t>(pack->classes().size()) ||
          pack->original(i).size() > size) {
        std::abort();
      }
      try {
        pack->read(i);
      } catch (const comba::Error&) {  // the image's own checksum
      }
    }
  } catch (const comba::Error&) {
  }
  return 0;
}
