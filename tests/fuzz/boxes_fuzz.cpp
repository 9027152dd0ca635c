// Annotation and result files, whatever is in them: numbers, flags, boxes, names, or an Error that says what is wrong.
#include "tracking/box_file.h"
#include "vision/base/error.h"

#include <cstdint>
#include <cstdlib>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const auto boxes = comba::tracking::parse_boxes(text, "boxes.txt");
    if (boxes.size() > size) {
      std::abort();  // a box has at least seven characters
    }
  } catch (const comba::Error&) {
  }
  try {
    if (comba::tracking::parse_numbers(text, "numbers.txt").size() > size) {
      std::abort();
    }
  } catch (const comba::Error&) {
  }
  return 0;
}
