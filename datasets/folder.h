// Images in class folders: class = subfolder, in sorted order.
#pragma once

#include "datasets/source.h"

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace comba::datasets {

// Image files anywhere below each subfolder of `root`, sorted by path. Hidden files are left out. A class without
// images is warned of and kept, so that labels stay those of the folder list; throws if there is no image at all.
std::unique_ptr<ImageSource> open_folder(const std::filesystem::path& root);

// An image file and its class.
struct LabelledFile {
  std::string path;  // relative to the root, with forward slashes
  int64_t label = 0;
};

// These files below `root`. `kind` begins the fingerprint, which follows the paths and `seed`.
std::unique_ptr<ImageSource> open_files(const std::filesystem::path& root,
                                        std::vector<std::string> classes,
                                        std::vector<LabelledFile> files, const std::string& kind,
                                        uint32_t seed);

// The names of the folders in `root`, sorted, without hidden ones.
std::vector<std::string> folder_names(const std::filesystem::path& root);

// True for the names of image files this library reads (by extension, any case).
bool is_image_name(const std::filesystem::path& path);

}  // namespace comba::datasets
