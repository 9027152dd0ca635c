// Files of labels, whatever is in them: names and classes, or an Error that says what is wrong.
#include "datasets/label_list.h"
#include "tests/fuzz/fuzz_files.h"
#include "vision/base/error.h"

#include <string_view>

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  comba::fuzz::add_to_corpus("names", "val/a_1.JPEG n01\nb_2.JPEG,n02\n");
  comba::fuzz::add_to_corpus("kaggle", "ImageId,PredictionString\na_1,n01 85 1 499 272 \n");
  comba::fuzz::add_to_corpus("numbers", "1 n03\n2 n01 tench\n");
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace comba::datasets;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  comba::fuzz::guarded([&] {
    const LabelList list = parse_labels(text, "labels.txt");
    if (list.by_name.empty() == list.by_number.empty() || list.by_name.count("") != 0) {
      std::abort();
    }
  });
  comba::fuzz::guarded([&] {
    if (parse_devkit_synsets(text, "synsets.txt").size() > size) {
      std::abort();
    }
  });
  comba::fuzz::guarded([&] {
    if (parse_class_list(text, "classes.txt").empty()) {
      std::abort();
    }
  });
  return 0;
}
