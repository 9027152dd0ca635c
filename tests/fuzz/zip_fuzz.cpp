// A zip archive, whatever is in it: files that lie in it, or an Error.
#include "tests/fuzz/fuzz_files.h"
#include "tests/vision/zip_pieces.h"
#include "vision/io/zip_archive.h"

#include <cstdlib>

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  using comba::testing_tools::zip;
  comba::fuzz::add_to_corpus("two", zip({{"w/data.pkl", "}"}, {"w/data/0", "0123"}}, "comment"));
  comba::fuzz::add_to_corpus("large", zip({{.name = "w", .content = "12345678", .large = true}}));
  comba::fuzz::add_to_corpus(
      "64-bit end", zip({{"a", "b"}}) + "PK\x06\x06" + std::string(52, '\0') + "PK\x06\x07" +
                        std::string(16, '\0') + zip({}).replace(16, 4, "\xff\xff\xff\xff"));
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  comba::fuzz::guarded([&] {
    for (const auto& [name, content] : comba::vision::list_zip({data, size}, "w.pth")) {
      if (content && (content->data() < data || content->size() > size ||
                      static_cast<size_t>(content->data() - data) > size - content->size())) {
        std::abort();
      }
    }
  });
  return 0;
}
