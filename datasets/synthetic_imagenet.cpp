#include "datasets/synthetic_imagenet.h"

#include "datasets/decode.h"
#include "datasets/jpeg.h"
#include "datasets/sampler.h"
#include "datasets/synthetic_sprite.h"
#include "datasets/synthetic_texture.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/parallel.h"
#include "vision/base/random.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <fstream>

#include <opencv2/imgproc.hpp>

namespace comba::datasets {
namespace fs = std::filesystem;
namespace {

enum Part : uint64_t { kTraining, kValidation, kClass };  // epochs of the random streams

// Shares of the sizes, of 20.
cv::Size draw_size(RandomStream& random) {
  const int64_t share = random.below(20);
  return share < 12   ? cv::Size(500, 375)
         : share < 15 ? cv::Size(375, 500)
         : share < 17 ? cv::Size(500, 333)
         : share < 18 ? cv::Size(333, 500)
         : share < 19 ? cv::Size(400, 300)
                      : cv::Size(640, 480);
}

// What the pictures of a class have in common.
struct ClassLook {
  Shape shape;
  Palette palette;
};

ClassLook look_of(uint64_t seed, int64_t label) {
  RandomStream random(seed, kClass, static_cast<uint64_t>(label), RandomPurpose::synthesise);
  return {static_cast<Shape>(label % kShapes), Palette(random)};
}

void add_grain(RandomStream& random, cv::Mat3b& image) {
  cv::Mat3s grain(image.size());
  cv::RNG fast((static_cast<uint64_t>(random.next()) << 32) | random.next());
  fast.fill(grain, cv::RNG::NORMAL, 0, random.uniform(3, 11));
  cv::add(image, grain, image, cv::noArray(), CV_8U);
}

Image draw(uint64_t seed, Part part, int64_t number, int64_t label) {
  RandomStream random(seed, part, static_cast<uint64_t>(number), RandomPurpose::synthesise);
  const cv::Size size = draw_size(random);
  const ClassLook look = look_of(seed, label);
  cv::Mat3b picture = draw_surface(random, size, Palette(random), random.uniform(0.05, 0.3), {});
  const Camera camera(random, size);
  const Palette palette(random, look.palette, 0.15);
  const Sprite thing(random, look.shape, palette, {},
                     {.image = size, .least = 0.2, .most = 0.45, .reach = 0.1});
  thing.paste(camera, 0, picture);
  add_grain(random, picture);
  Image image{size.height, size.width, 3, std::vector<uint8_t>(picture.total() * 3)};
  std::memcpy(image.pixels.data(), picture.data, image.pixels.size());
  return image;
}

Image to_grey(const Image& image) {
  Image grey{image.height, image.width, 1, std::vector<uint8_t>(image.pixels.size() / 3)};
  const cv::Mat from(image.height, image.width, CV_8UC3, const_cast<uint8_t*>(image.pixels.data()));
  cv::Mat to(image.height, image.width, CV_8UC1, grey.pixels.data());
  cv::cvtColor(from, to, cv::COLOR_RGB2GRAY);
  return grey;
}

// With an EXIF segment (big-endian: header, one directory with the orientation alone) behind the first marker.
std::string turned_on_its_side(const std::string& jpeg) {
  static constexpr char kSegment[] =
      "\xff\xe1\0\x22"
      "Exif\0\0"
      "MM\0*\0\0\0\x08"
      "\0\x01"
      "\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"
      "\0\0\0\0";
  return jpeg.substr(0, 2) + std::string(kSegment, sizeof kSegment - 1) + jpeg.substr(2);
}

// The file of a picture; a few are unusual, by its number.
std::string encode(const Image& image, int64_t number) {
  constexpr int kQuality = 95;
  switch (number % 97) {
    case 13:
      return encode_jpeg(to_grey(image), kQuality);
    case 29:
      return encode_jpeg(image, kQuality, JpegKind::cmyk);
    case 43:
      return encode_png(image);
    case 59:
      return turned_on_its_side(encode_jpeg(image, kQuality));
    case 71:
      return encode_jpeg(image, kQuality, JpegKind::progressive);
    default:
      return encode_jpeg(image, kQuality);
  }
}

// The list of labels, written last, says that all is there; a picture needs no more.
void write(const fs::path& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  COMBA_CHECK(file.good(), "writing {}: {}", path.string(), std::strerror(errno));
}

std::string synset(int64_t label) { return fmt::format("n{:08}", label + 1); }

std::string validation_name(int64_t number) {
  return fmt::format("ILSVRC2012_val_{:08}.JPEG", number + 1);
}

}  // namespace

void write_synthetic_imagenet(const fs::path& folder, const SyntheticImagenetOptions& o,
                              const std::function<void(int64_t)>& done) {
  COMBA_CHECK(!fs::exists(folder) || fs::is_empty(folder),
              "writing {}: expected a new or empty folder", folder.string());
  fs::create_directories(folder / "val");
  for (int64_t label = 0; label < o.classes; ++label) {
    fs::create_directories(folder / "train" / synset(label));
  }
  const int64_t training = o.classes * o.per_class;
  std::atomic<int64_t> finished = 0;
  parallel_for(static_cast<size_t>(training), o.threads, [&](size_t n) {
    const auto number = static_cast<int64_t>(n), label = number / o.per_class;
    write(folder / "train" / synset(label) /
              fmt::format("{}_{}.JPEG", synset(label), number % o.per_class),
          encode(draw(o.seed, kTraining, number, label), number));
    done(++finished);
  });
  const Permutation order(std::max<int64_t>(1, o.validation), o.seed, kValidation);
  parallel_for(static_cast<size_t>(o.validation), o.threads, [&](size_t n) {
    const auto number = static_cast<int64_t>(n);
    write(folder / "val" / validation_name(number),
          encode(draw(o.seed, kValidation, number, order[number] % o.classes), number));
    done(++finished);
  });
  std::string labels;
  for (int64_t number = 0; number < o.validation; ++number) {
    labels += fmt::format("{} {}\n", validation_name(number), synset(order[number] % o.classes));
  }
  write_file_atomic(folder / "val.txt", labels);
}

}  // namespace comba::datasets
