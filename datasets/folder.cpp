#include "datasets/folder.h"

#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/log.h"

#include <algorithm>
#include <array>

namespace comba::datasets {
namespace fs = std::filesystem;
namespace {

bool is_hidden(const fs::path& path) { return path.filename().string().starts_with('.'); }

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

class FileSource final : public ImageSource {
 public:
  FileSource(fs::path root, std::vector<std::string> classes, std::vector<LabelledFile> files,
             std::string kind, uint32_t seed)
      : root_(std::move(root)),
        classes_(std::move(classes)),
        entries_(std::move(files)),
        kind_(std::move(kind)),
        seed_(seed) {}

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
    uint32_t crc = seed_;
    for (const LabelledFile& entry : entries_) {
      crc =
          crc32c({reinterpret_cast<const uint8_t*>(entry.path.data()), entry.path.size() + 1}, crc);
    }
    return fmt::format("{}:{}:{:08x}", kind_, entries_.size(), crc);
  }

 private:
  fs::path root_;
  std::vector<std::string> classes_;
  std::vector<LabelledFile> entries_;
  std::string kind_;
  uint32_t seed_;
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

std::vector<std::string> folder_names(const fs::path& root) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(root)) {
    if (entry.is_directory() && !is_hidden(entry.path())) {
      names.push_back(entry.path().filename().string());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::unique_ptr<ImageSource> open_files(const fs::path& root, std::vector<std::string> classes,
                                        std::vector<LabelledFile> files, const std::string& kind,
                                        uint32_t seed) {
  return std::make_unique<FileSource>(root, std::move(classes), std::move(files), kind, seed);
}

std::unique_ptr<ImageSource> open_folder(const fs::path& root) {
  std::vector<std::string> classes = folder_names(root);
  std::vector<LabelledFile> files;
  for (size_t label = 0; label < classes.size(); ++label) {
    const auto images = images_below(root / classes[label], root);
    if (images.empty()) {
      log::warning("{}: the class folder {} holds no images", root.string(), classes[label]);
    }
    for (const std::string& path : images) {
      files.push_back({path, static_cast<int64_t>(label)});
    }
  }
  COMBA_CHECK(!classes.empty(), "opening images: {} holds no class folders", root.string());
  COMBA_CHECK(!files.empty(), "opening images: the {} class folders of {} hold no image files",
              classes.size(), root.string());
  return open_files(root, std::move(classes), std::move(files), "folder", 0);
}

}  // namespace comba::datasets
