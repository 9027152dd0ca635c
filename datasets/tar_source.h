// Images in tar archives: WebDataset's shards, or class folders in archives.
#pragma once

#include "datasets/source.h"

#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

namespace comba::datasets {

// The archives that `path` means: itself if it ends in .tar, those in a folder (none: nullopt), or those of a pattern such as
// train-{000..099}.tar, which need not exist.
std::optional<std::vector<std::filesystem::path>> tar_archives(const std::filesystem::path& path);

// Members with the same path up to the first dot of the file's name belong together. An image's class is, in this order: the
// text of .cls or .label beside it, "label" or "cls" in .json beside it, the folder that it is in, NAME of an archive NAME.tar
// whose images are called NAME_..., as ImageNet's are. Numbers are labels; their names are the lines of classes.txt or
// classnames.txt beside the archives, if there is one. Other texts are class names, sorted.
//
// All headers are read and verified here. Throws Error naming the archive, the offset and what is wrong.
std::unique_ptr<ImageSource> open_tars(const std::vector<std::filesystem::path>& archives);

}  // namespace comba::datasets
