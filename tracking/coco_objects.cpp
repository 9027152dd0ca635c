#include "tracking/coco_objects.h"

#include "vision/base/error.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <unordered_map>

#include <nlohmann/json.hpp>

namespace comba::tracking {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

// Takes the entries of the lists "images" and "annotations" out of the stream of a file that is too large for a tree.
class CocoReader final : public nlohmann::json_sax<Json> {
 public:
  explicit CocoReader(const fs::path& file) : file_(file) {}

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t value) override {
    return number(static_cast<double>(value));
  }
  bool number_unsigned(number_unsigned_t value) override {
    return number(static_cast<double>(value));
  }
  bool number_float(number_float_t value, const string_t&) override { return number(value); }
  bool binary(binary_t&) override { return true; }
  bool string(string_t& value) override {
    if (depth_ == kEntry && field_ == "file_name") {
      file_name_ = value;
    }
    return true;
  }
  bool key(string_t& key) override {
    if (depth_ == kRoot) {
      section_ = key == "images"        ? Section::images
                 : key == "annotations" ? Section::annotations
                                        : Section::other;
    } else if (depth_ == kEntry) {
      field_ = key;
    }
    return true;
  }
  bool start_object(size_t) override {
    if (++depth_ == kEntry) {
      id_ = image_id_ = crowd_ = std::nullopt;
      file_name_.reset();
      box_.clear();
    }
    return true;
  }
  bool end_object() override {
    if (depth_-- == kEntry) {
      if (section_ == Section::images) {
        take_image();
      } else if (section_ == Section::annotations) {
        take_object();
      }
    }
    return true;
  }
  bool start_array(size_t) override {
    ++depth_;
    return true;
  }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool parse_error(size_t, const std::string&, const Json::exception& error) override {
    throw Error(fmt::format("reading {}: not the JSON of COCO's instances: {}", file_.string(),
                            error.what()));
  }

  CocoObjects finish() {
    COMBA_CHECK(!found_.objects.empty(),
                "reading {}: expected \"annotations\" with objects in them, found none",
                file_.string());
    for (CocoObject& object : found_.objects) {
      const auto place = places_.find(object.image_id);
      COMBA_CHECK(place != places_.end(),
                  "reading {}: annotation {} is of image {}, which is not in \"images\"",
                  file_.string(), object.id, object.image_id);
      object.image = place->second;
    }
    std::stable_sort(found_.objects.begin(), found_.objects.end(),
                     [](const CocoObject& a, const CocoObject& b) { return a.image < b.image; });
    return std::move(found_);
  }

 private:
  // {"images": [{...}, ...]}: the depth of the root's keys, of an entry's, and of the numbers in an entry's list.
  static constexpr int kRoot = 1, kEntry = 3, kList = 4;
  enum class Section { other, images, annotations };

  bool number(double value) {
    if (depth_ == kEntry) {
      std::optional<double>* const to = field_ == "id"         ? &id_
                                        : field_ == "image_id" ? &image_id_
                                        : field_ == "iscrowd"  ? &crowd_
                                                               : nullptr;
      if (to != nullptr) {
        *to = value;
      }
    } else if (depth_ == kList && section_ == Section::annotations && field_ == "bbox") {
      box_.push_back(value);
    }
    return true;
  }

  int64_t id_in(const std::optional<double>& value, const char* list, const char* key,
                size_t entry) const {
    COMBA_CHECK(value && *value == std::floor(*value) && std::abs(*value) < 9e15,
                "reading {}: entry {} of \"{}\" (from 0) has no whole number \"{}\"",
                file_.string(), entry, list, key);
    return static_cast<int64_t>(*value);
  }

  void take_image() {
    const size_t entry = found_.images.size();
    const int64_t id = id_in(id_, "images", "id", entry);
    COMBA_CHECK(file_name_.has_value(), "reading {}: image {} has no \"file_name\"", file_.string(),
                id);
    COMBA_CHECK(places_.emplace(id, entry).second, "reading {}: image {} is there twice",
                file_.string(), id);
    found_.images.push_back(*file_name_);
  }

  void take_object() {
    const size_t entry = annotations_++;
    const int64_t id = id_in(id_, "annotations", "id", entry);
    const int64_t image = id_in(image_id_, "annotations", "image_id", entry);
    COMBA_CHECK(box_.size() == 4,
                "reading {}: annotation {}: expected \"bbox\" with four numbers, got {}",
                file_.string(), id, box_.size());
    if (crowd_.value_or(0) == 0) {
      found_.objects.push_back({id, image, 0, {box_[0], box_[1], box_[2], box_[3]}});
    }
  }

  const fs::path& file_;
  CocoObjects found_;
  std::unordered_map<int64_t, size_t> places_;  // of the images' ids
  size_t annotations_ = 0;
  int depth_ = 0;
  Section section_ = Section::other;
  std::string field_;
  // Of the entry being read.
  std::optional<double> id_, image_id_, crowd_;
  std::optional<std::string> file_name_;
  std::vector<double> box_;
};

}  // namespace

CocoObjects parse_coco(std::span<const uint8_t> json, const fs::path& name) {
  CocoReader reader(name);
  Json::sax_parse(json.begin(), json.end(), &reader);
  return reader.finish();
}

}  // namespace comba::tracking
