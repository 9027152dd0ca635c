// A file of COCO's instances, whatever is in it: objects of images that are listed, or an Error that says what is wrong.
#include "tracking/coco_objects.h"
#include "vision/base/error.h"

#include <cstdint>
#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto found = comba::tracking::parse_coco({data, size}, "instances.json");
    for (const auto& object : found.objects) {
      if (object.image >= found.images.size()) {
        std::abort();
      }
    }
  } catch (const comba::Error&) {
  }
  return 0;
}
