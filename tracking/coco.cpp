#include "tracking/coco.h"

#include "tracking/coco_objects.h"
#include "vision/base/error.h"
#include "vision/base/files.h"

#include <memory>

namespace comba::tracking {
namespace {

namespace fs = std::filesystem;

fs::path coco_images(const fs::path& folder) {
  for (const char* const place : {"train2017", "images/train2017"}) {
    if (fs::is_directory(folder / place)) {
      return folder / place;
    }
  }
  throw Error(
      fmt::format("reading COCO from {}: expected its images in train2017 or images/train2017, "
                  "there is neither",
                  folder.string()));
}

TrainingVideo video_of(const CocoObject& object, std::string name,
                       const std::shared_ptr<const VideoFrames>& images) {
  TrainingVideo video{.name = std::move(name),
                      .frames = images,
                      .truth = {object.box},
                      .usable = {},
                      .first = object.image,
                      .still = true};
  use_boxes_with_area(video);
  return video;
}

}  // namespace

std::vector<ListedVideo> coco_entries(const fs::path& folder) {
  const fs::path file = folder / "annotations/instances_train2017.json";
  COMBA_CHECK(fs::exists(file), "reading COCO from {}: there is no {}", folder.string(),
              file.string());
  const fs::path images = coco_images(folder);
  const auto found = std::make_shared<CocoObjects>(parse_coco(MappedFile(file).bytes(), file));
  const size_t count = found->images.size();
  const auto frames =
      frames_of({.folder = images, .names = std::move(found->images), .count = count});
  std::vector<ListedVideo> entries;
  entries.reserve(found->objects.size());
  for (const CocoObject& object : found->objects) {
    const std::string name = fmt::format("{}-{}", object.image_id, object.id);
    entries.push_back(
        {name, [found, &object, name, frames] { return video_of(object, name, frames); }});
  }
  return entries;
}

}  // namespace comba::tracking
