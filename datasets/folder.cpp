#include "datasets/folder.h"

#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/log.h"

#include <algorithm>
#include <array>

namespace comba::datasets {
namespace fs = std::filesystem;
namespace {

struct Entry {
  std::string path;  // relative to the root, with forward slashes
  int64_t label;
};

bool is_hidden(const fs::path& path) { return path.filename().string().starts_with('.'); }

std::vector<fs::path> sorted_folders(const fs::path& root) {
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(root)) {
    if (entry.is_directory() && !is_hidden(entry.path())) {
      folders.push_back(entry.path());
    }
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

std::vector<std::string> images_below(const fs::path& folder, const fs::path& root) {
  std::vector<std::string> paths;
  const auto options = fs::directory_options::follow_directory_symlink;
  for (const auto& entry : fs::recursive_directory_iterator(folder, options)) {
    if (entry.is_regular_file() && !is_hidden(entry.path()) && is_image_name(entry.path())) {
      paths.push_back(entry.path().lexically_relative(root).generic_string());
    }
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

class FolderSource : public ImageSource {
 public:
  explicit FolderSource(const fs::path& root) : root_(root) {
    for (const fs::path& folder : sorted_folders(root)) {
      const auto label = static_cast<int64_t>(classes_.size());
      classes_.push_back(folder.filename().string());
      const auto images = images_below(folder, root);
      if (images.empty()) {
        log::warning("{}: the class folder {} holds no images", root.string(), classes_.back());
      }
      for (const std::string& path : images) {
        entries_.push_back({path, label});
      }
    }
    COMBA_CHECK(!classes_.empty(), "opening images: {} holds no class folders", root.string());
    COMBA_CHECK(!entries_.empty(), "opening images: the {} class folders of {} hold no image files",
                classes_.size(), root.string());
  }

  int64_t size() const override { return static_cast<int64_t>(entries_.size()); }
  int64_t label(int64_t index) const override { return entries_.at(index).label; }
  std::string name(int64_t index) const override {
    return (root_ / entries_.at(index).path).string();
  }
  std::string original(int64_t index) const override { return entries_.at(index).path; }
  const std::vector<std::string>& classes() const override { return classes_; }

  EncodedSample read(int64_t index) const override {
    EncodedSample sample;
    sample.name = name(index);
    sample.label = label(index);
    const std::string content = read_file(sample.name);
    sample.storage.assign(content.begin(), content.end());
    sample.bytes = sample.storage;
    return sample;
  }

  std::string fingerprint() const override {
    uint32_t crc = 0;
    for (const Entry& entry : entries_) {
      crc =
          crc32c({reinterpret_cast<const uint8_t*>(entry.path.data()), entry.path.size() + 1}, crc);
    }
    return fmt::format("folder:{}:{:08x}", entries_.size(), crc);
  }

 private:
  fs::path root_;
  std::vector<std::string> classes_;
  std::vector<Entry> entries_;
};

}  // namespace

bool is_image_name(const fs::path& path) {
  static constexpr std::array kExtensions = {".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".webp",
                                             ".tif", ".tiff", ".pbm", ".ppm", ".pgm"};
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return std::find(kExtensions.begin(), kExtensions.end(), extension) != kExtensions.end();
}

std::unique_ptr<ImageSource> open_folder(const fs::path& root) {
  return std::make_unique<FolderSource>(root);
}

}  // namespace comba::datasets
