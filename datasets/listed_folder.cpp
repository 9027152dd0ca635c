#include "datasets/listed_folder.h"

#include "datasets/folder.h"
#include "datasets/label_list.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/log.h"

#include <algorithm>
#include <optional>
#include <set>

namespace comba::datasets {
namespace fs = std::filesystem;
namespace {

constexpr const char* kGroundTruth = "ILSVRC2012_validation_ground_truth.txt";
constexpr const char* kDevkitSynsets = "ILSVRC2012_synsets.txt";

fs::path normal(const fs::path& folder) {
  const fs::path path = fs::absolute(folder).lexically_normal();
  return path.has_filename() ? path : path.parent_path();
}

// The folder and `levels` of those around it.
std::vector<fs::path> places(const fs::path& folder, int levels) {
  std::vector<fs::path> found = {normal(folder)};
  for (int i = 0; i < levels && found.back().has_relative_path(); ++i) {
    found.push_back(found.back().parent_path());
  }
  return found;
}

std::optional<fs::path> find_file(const std::vector<fs::path>& folders,
                                  const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    for (const fs::path& folder : folders) {
      if (fs::is_regular_file(folder / name)) {
        return folder / name;
      }
    }
  }
  return std::nullopt;
}

fs::path find_labels(const fs::path& folder) {
  const std::string name = normal(folder).filename().string();
  const std::string kaggle = fmt::format("LOC_{}_solution.csv", name);
  const std::vector<std::string> beside = {name + ".txt", name + "_labels.txt", "labels.txt",
                                           "synset_labels.txt",
                                           "imagenet_2012_validation_synset_labels.txt"};
  auto found = find_file(places(folder, 4), {kaggle});
  if (!found) {
    found = find_file(places(folder, 1), beside);
  }
  if (!found) {
    std::vector<fs::path> devkit = places(folder, 1);
    for (const char* below : {"devkit/data", "ILSVRC2012_devkit_t12/data"}) {
      devkit.push_back(normal(folder).parent_path() / below);
    }
    found = find_file(devkit, {kGroundTruth});
  }
  COMBA_CHECK(found,
              "opening images: {} holds images and no class folders, so that their labels must be "
              "in a file in it or beside it: {}, {}, or the devkit's {}; or move each image into a "
              "folder of its class",
              folder.string(), kaggle, fmt::join(beside, ", "), kGroundTruth);
  return *found;
}

// The labels of the devkit are numbers of its own, whose synsets only its meta.mat tells.
void translate_devkit(LabelList& list, const fs::path& truth) {
  const fs::path path = truth.parent_path() / kDevkitSynsets;
  COMBA_CHECK(fs::exists(path),
              "opening {}: its numbers are the devkit's ILSVRC2012_ID, which are in no sorted "
              "order; {} must say which synset each is, in lines ID SYNSET. It is made from the "
              "devkit's meta.mat, with SciPy: python3 -c \"import scipy.io; [print(s[0], s[1]) for "
              "s in scipy.io.loadmat('meta.mat', squeeze_me=True)['synsets'] if s[0] <= 1000]\" > "
              "{}",
              truth.string(), path.string(), kDevkitSynsets);
  const auto synsets = parse_devkit_synsets(read_file(path), path.string());
  COMBA_CHECK(list.by_name.empty(), "opening {}: expected one number a line", truth.string());
  for (size_t i = 0; i < list.by_number.size(); ++i) {
    std::string& label = list.by_number[i];
    const int64_t id = is_small_number(label) ? std::stoll(label) : 0;
    COMBA_CHECK(id >= 1 && static_cast<size_t>(id) <= synsets.size(),
                "opening {}: label {} is \"{}\", expected an ID of 1 .. {}", truth.string(), i + 1,
                label, synsets.size());
    label = synsets[static_cast<size_t>(id - 1)];
  }
}

std::vector<std::string> image_names(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_regular_file() && !name.starts_with('.') && is_image_name(name)) {
      names.push_back(name);
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

// "ILSVRC2012_val_00000017.JPEG" is number 17.
int64_t number_of(const std::string& image) {
  const std::string stem = fs::path(image).stem().string();
  const size_t digits = stem.find_last_not_of("0123456789") + 1;  // 0 if there is nothing else
  const std::string number = stem.substr(digits);
  return is_small_number(number) ? std::stoll(number) : 0;
}

const std::string& label_of(const LabelList& list, const std::string& image, const fs::path& path) {
  if (!list.by_name.empty()) {
    const auto found = list.by_name.find(fs::path(image).stem().string());
    COMBA_CHECK(found != list.by_name.end(), "reading {}: it has no label for {}", path.string(),
                image);
    return found->second;
  }
  const int64_t number = number_of(image);
  COMBA_CHECK(number >= 1 && static_cast<size_t>(number) <= list.by_number.size(),
              "reading {}: it has labels for images 1 to {}, and {} is none of them (the number is "
              "the end of the name)",
              path.string(), list.by_number.size(), image);
  return list.by_number[static_cast<size_t>(number - 1)];
}

std::vector<std::string> find_classes(const fs::path& folder, const LabelList& list) {
  const fs::path train = normal(folder).parent_path() / "train";
  if (fs::is_directory(train)) {
    return folder_names(train);
  }
  if (const auto path = find_file(places(folder, 4), {"LOC_synset_mapping.txt"})) {
    return parse_class_list(read_file(*path), path->string());
  }
  if (const auto path = find_file(places(folder, 1), {"synset_words.txt", "synsets.txt"})) {
    return parse_class_list(read_file(*path), path->string());
  }
  std::set<std::string> names(list.by_number.begin(), list.by_number.end());
  int64_t most = -1;
  for (const auto& [image, label] : list.by_name) {
    names.insert(label);
  }
  for (const std::string& name : names) {
    if (!is_small_number(name)) {
      return {names.begin(), names.end()};
    }
    most = std::max<int64_t>(most, std::stoll(name));
  }
  constexpr int64_t kMostClasses = 1'000'000;
  COMBA_CHECK(most < kMostClasses, "opening {}: label {}, expected 0 .. {}", folder.string(), most,
              kMostClasses - 1);
  std::vector<std::string> numbers;
  for (int64_t i = 0; i <= most; ++i) {
    numbers.push_back(std::to_string(i));
  }
  return numbers;
}

int64_t class_of(const std::string& label, const std::vector<std::string>& classes,
                 const std::string& image, const fs::path& path) {
  const auto found = std::find(classes.begin(), classes.end(), label);
  if (found != classes.end()) {
    return found - classes.begin();
  }
  const int64_t number = is_small_number(label) ? std::stoll(label) : -1;
  COMBA_CHECK(number >= 0 && static_cast<size_t>(number) < classes.size(),
              "reading {}: {} is of class {}, which is none of the {} classes {} .. {}",
              path.string(), image, label, classes.size(), classes.front(), classes.back());
  return number;
}

}  // namespace

std::unique_ptr<ImageSource> open_listed_folder(const fs::path& folder) {
  const auto images = image_names(folder);
  COMBA_CHECK(!images.empty(), "opening images: {} holds neither class folders nor images",
              folder.string());
  const fs::path path = find_labels(folder);
  const std::string text = read_file(path);
  LabelList list = parse_labels(text, path.string());
  if (path.filename() == kGroundTruth) {
    translate_devkit(list, path);
  } else if (std::any_of(list.by_number.begin(), list.by_number.end(), is_small_number)) {
    throw Error(
        fmt::format("reading {}: numbers alone may count from 0 or from 1, in this order of "
                    "classes or that; expected lines NAME NUMBER (from 0, in sorted order), "
                    "or synsets",
                    path.string()));
  }
  const auto classes = find_classes(folder, list);
  COMBA_CHECK(!classes.empty(), "opening images: the train folder beside {} has no class folders",
              folder.string());
  std::vector<LabelledFile> files;
  for (const std::string& image : images) {
    files.push_back({image, class_of(label_of(list, image, path), classes, image, path)});
  }
  const size_t labels = std::max(list.by_name.size(), list.by_number.size());
  if (labels > files.size()) {
    log::warning("{}: {} images, but labels for {} in {}", folder.string(), files.size(), labels,
                 path.string());
  }
  log::info("{}: the labels are those of {}", folder.string(), path.string());
  const uint32_t seed = crc32c({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  return open_files(folder, classes, std::move(files), "list", seed);
}

}  // namespace comba::datasets
