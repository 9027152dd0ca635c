// Images in class folders: class = subfolder, in sorted order.
#pragma once

#include "datasets/source.h"

#include <filesystem>
#include <memory>

namespace comba::datasets {

// Image files anywhere below each subfolder of `root`, sorted by path. Hidden files are left out. A class without
// images is warned of and kept, so that labels stay those of the folder list; throws if there is no image at all.
std::unique_ptr<ImageSource> open_folder(const std::filesystem::path& root);

// True for the names of image files this library reads (by extension, any case).
bool is_image_name(const std::filesystem::path& path);

}  // namespace comba::datasets
