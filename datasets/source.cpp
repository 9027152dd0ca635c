#include "datasets/source.h"

#include "datasets/folder.h"
#include "datasets/image_error.h"
#include "datasets/listed_folder.h"
#include "datasets/pack.h"
#include "datasets/tar_source.h"
#include "vision/base/error.h"

#include <algorithm>

namespace comba::datasets {
namespace fs = std::filesystem;
namespace {

// Class folders may have any of these names, but hardly all.
bool are_splits(const std::vector<std::string>& names) {
  constexpr std::string_view kSplits[] = {"train", "val", "valid", "validation", "test"};
  return std::all_of(names.begin(), names.end(), [&](const std::string& name) {
    return std::find(std::begin(kSplits), std::end(kSplits), name) != std::end(kSplits);
  });
}

std::unique_ptr<ImageSource> open_any_folder(const fs::path& folder) {
  if (const auto names = folder_names(folder); !names.empty()) {
    COMBA_CHECK(
        !are_splits(names),
        "opening images: {}: expected one folder a class, found {}, which look like splits; "
        "name one of them (--split, data.train_split, data.eval_split)",
        folder.string(), fmt::join(names, ", "));
    return open_folder(folder);
  }
  if (const auto archives = tar_archives(folder)) {
    return open_tars(*archives);
  }
  return open_listed_folder(folder);
}

std::vector<fs::path> archives_of(const fs::path& folder, const std::string& split) {
  auto archives = tar_archives(folder).value_or(std::vector<fs::path>());
  std::erase_if(archives, [&](const fs::path& path) {
    return !path.filename().string().starts_with(split + "-");
  });
  return archives;
}

std::unique_ptr<ImageSource> open_split(const fs::path& path, const std::string& split) {
  const fs::path pack = path / (split + ".pack"), archive = path / (split + ".tar");
  if (fs::exists(pack)) {
    return open_pack(pack);
  }
  for (const char* below : {"", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "CLS-LOC"}) {
    if (const fs::path folder = path / below / split; fs::is_directory(folder)) {
      return open_any_folder(folder);
    }
  }
  if (fs::exists(archive)) {
    return open_tars({archive});
  }
  if (const auto archives = archives_of(path, split); !archives.empty()) {
    return open_tars(archives);
  }
  throw Error(
      fmt::format("opening images: {}: expected {}.pack, a folder {} (or "
                  "ILSVRC/Data/CLS-LOC/{}), {}.tar or {}-*.tar in it, found none",
                  path.string(), split, split, split, split, split));
}

}  // namespace

EncodedSample read_or_reject(const ImageSource& source, int64_t index) {
  try {
    return source.read(index);
  } catch (const Error& error) {
    throw ImageError(ImageProblem::unreadable, error.what());
  }
}

std::unique_ptr<ImageSource> open_images(const fs::path& path, const std::string& split) {
  if (!fs::is_directory(path)) {
    if (const auto archives = tar_archives(path)) {
      return open_tars(*archives);
    }
  }
  COMBA_CHECK(fs::exists(path),
              "opening images: {} does not exist; give a pack, a tar archive or a folder of images",
              path.string());
  if (!fs::is_directory(path)) {
    const std::string extension = path.extension().string();
    COMBA_CHECK(extension != ".gz" && extension != ".tgz" && extension != ".zip",
                "opening images: {} is compressed as a whole, so that nothing can be read from its "
                "middle; unpack it, to a .tar or a folder",
                path.string());
    return open_pack(path);
  }
  return split.empty() ? open_any_folder(path) : open_split(path, split);
}

}  // namespace comba::datasets
