#include "datasets/source.h"

#include "datasets/folder.h"
#include "datasets/pack.h"
#include "vision/base/error.h"

namespace comba::datasets {
namespace fs = std::filesystem;

std::unique_ptr<ImageSource> open_images(const fs::path& path, const std::string& split) {
  COMBA_CHECK(fs::exists(path),
              "opening images: {} does not exist; give a pack file or a folder of class folders",
              path.string());
  if (fs::is_regular_file(path)) {
    return open_pack(path);
  }
  if (!split.empty()) {
    const fs::path pack = path / (split + ".pack"), folder = path / split;
    if (fs::exists(pack)) {
      return open_pack(pack);
    }
    if (fs::is_directory(folder)) {
      return open_folder(folder);
    }
    throw Error(
        fmt::format("opening images: {}: expected {}.pack or a folder {} in it, found neither",
                    path.string(), split, split));
  }
  return open_folder(path);
}

}  // namespace comba::datasets
