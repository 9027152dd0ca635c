// Files as they break in real sets: what the loader's policies and the packer make of each, and that a message names file and
// place.
#include "datasets/decode.h"
#include "datasets/folder.h"
#include "datasets/loader.h"
#include "datasets/pack_images.h"
#include "tests/base/temporary_folder.h"
#include "tests/datasets/pictures.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/log.h"

#include <mutex>

namespace comba::datasets {
namespace {
namespace fs = std::filesystem;

using testing_tools::message_of;
using testing_tools::TemporaryFolder;

struct Fault {
  const char* file;
  std::string bytes, says;
};

std::vector<Fault> faults() {
  const std::string jpeg = encode_jpeg(noisy_picture(64, 64, 3), 90);
  const std::string half = jpeg.substr(0, jpeg.size() / 2);
  std::string png = encode_png(picture(16, 16, 3));
  std::string png_bomb = png;
  for (const size_t at : {size_t{16}, size_t{20}}) {
    png_bomb.replace(at, 4, std::string("\x00\x00\x4e\x20", 4));  // 20,000
  }
  return {
      {"cut.jpg", half, "Premature end of JPEG file near byte"},
      {"cut.png", png.substr(0, png.size() / 2), "the PNG is cut short"},
      {"empty.jpg", "", "the file is empty"},
      {"letter.jpg", "Dear reader, this is no image.", "not an image of a format read here"},
      {"bomb.jpg", with_claimed_size(jpeg, 20000, 20000), "20000 x 20000"},
      {"bomb.png", png_bomb, "20000 x 20000"},
  };
}

// Unusual, and yet images.
std::vector<Fault> oddities() {
  return {{"cmyk.jpg", one_colour_jpeg(JCS_CMYK, {255, 0, 0, 255}, true), ""},
          {"pixel.jpg", encode_jpeg(picture(1, 1, 3), 90), ""},
          {"pixel.png", encode_png(picture(1, 1, 1)), ""},
          {"column.jpg", encode_jpeg(picture(300, 1, 3), 90), ""},
          {"png.jpg", encode_png(picture(20, 30, 3)), ""},
          {"turned.jpg", with_orientation(encode_jpeg(picture(20, 30, 3), 90), 6, false), ""}};
}

class Faults : public testing::Test {
 protected:
  static constexpr int kGood = 10;
  Faults() { write_class_folders(root_.path() / "images", 2, kGood / 2); }
  void TearDown() override { log::set_sink(nullptr); }

  void add(const std::vector<Fault>& files) const {
    for (const Fault& fault : files) {
      write_file_atomic(root_.path() / "images/class0" / fault.file, fault.bytes);
    }
  }
  std::string path_of(const Fault& fault) const {
    return (root_.path() / "images/class0" / fault.file).string();
  }
  std::shared_ptr<const ImageSource> source() const { return open_folder(root_.path() / "images"); }

  // Images that a whole epoch gives by this policy.
  static int64_t load(const std::shared_ptr<const ImageSource>& images, const std::string& on_bad,
                      bool training, int64_t max_bad = 100, int64_t* bad = nullptr) {
    LoaderOptions options;
    options.transform.image_size = 8;
    options.transform.augment = "rand-m9-mstd0.5-inc1";
    options.batch_size = 2;
    options.training = training;
    options.threads = 3;
    options.on_bad = on_bad;
    options.max_bad = max_bad;
    Loader loader(images, options);
    loader.start(0);
    Batch batch;
    int64_t count = 0;
    while (loader.next(batch)) {
      count += batch.size;
    }
    if (bad != nullptr) {
      *bad = loader.bad_samples();
    }
    return count;
  }
  // Lines that are logged from now on.
  std::vector<std::string>& listen() {
    log::set_sink([this](log::Level, std::string_view line) {
      const std::lock_guard lock(mutex_);
      lines_.emplace_back(line);
    });
    return lines_;
  }

  const TemporaryFolder root_;
  std::mutex mutex_;
  std::vector<std::string> lines_;
};

TEST_F(Faults, EachStopsTheLoaderWithPathAndReasonByDefault) {
  for (const Fault& fault : faults()) {
    add({fault});
    for (const bool training : {false, true}) {
      const std::string message = message_of<Error>([&] { load(source(), "fail", training); });
      EXPECT_SAYS(message, path_of(fault));
      EXPECT_SAYS(message, fault.says);
      EXPECT_SAYS(message, "data.on_bad");
    }
    fs::remove(path_of(fault));
  }
}

TEST_F(Faults, AreSkippedOrGreyAndEachIsListedOnce) {
  add(faults());
  const auto images = source();
  for (const bool training : {false, true}) {
    for (const std::string policy : {"skip", "grey"}) {
      auto& lines = listen();
      lines.clear();
      int64_t bad = 0;
      const int64_t loaded = load(images, policy, training, 100, &bad);
      EXPECT_EQ(loaded, training || policy == "grey" ? images->size() : kGood);
      EXPECT_EQ(bad, static_cast<int64_t>(faults().size()));
      for (const Fault& fault : faults()) {
        const auto names = [&](const std::string& line) {
          return line.find(path_of(fault)) != std::string::npos &&
                 line.find(fault.says) != std::string::npos;
        };
        EXPECT_EQ(std::count_if(lines.begin(), lines.end(), names), 1) << fault.file;
      }
    }
  }
}

TEST_F(Faults, MoreThanTheLimitStopTheLoader) {
  listen();
  add(faults());
  const auto count = static_cast<int64_t>(faults().size());
  for (const std::string policy : {"skip", "grey"}) {
    EXPECT_NO_THROW(load(source(), policy, false, count));
    EXPECT_SAYS(message_of<Error>([&] { load(source(), policy, false, count - 1); }),
                fmt::format("{} bad samples, more than data.max_bad = {}", count, count - 1));
  }
}

TEST_F(Faults, OddImagesAreImages) {
  add(oddities());
  const auto images = source();
  int64_t bad = 0;
  for (const bool training : {false, true}) {
    EXPECT_EQ(load(images, "skip", training, 0, &bad), images->size());
    EXPECT_EQ(bad, 0);
  }
  const fs::path index = root_.path() / "p.pack";
  EXPECT_TRUE(pack_images(*images, index, {.short_side = 4}, [](int64_t, int64_t) {}).finished);
  EXPECT_EQ(load(open_images(index), "fail", true), images->size());
}

TEST_F(Faults, AFlippedBitInAPackIsNamedWithItsByteAndTreatedAsABadImage) {
  listen();
  const fs::path index = root_.path() / "p.pack", shard = root_.path() / "p.pack.000";
  pack_images(*source(), index, {}, [](int64_t, int64_t) {});
  std::string bytes = read_file(shard);
  bytes.back() ^= 32;
  write_file_atomic(shard, bytes);
  const std::string message = message_of<Error>([&] { load(open_images(index), "fail", false); });
  EXPECT_SAYS(message, "p.pack[9] class1/004.png");
  EXPECT_SAYS(message, "checksum differs at byte");
  EXPECT_SAYS(message, shard.string());
  int64_t bad = 0;
  EXPECT_EQ(load(open_images(index), "skip", false, 100, &bad), kGood - 1);
  EXPECT_EQ(bad, 1);
}

TEST_F(Faults, AMissingOrShortShardStopsBeforeAnythingIsRead) {
  const fs::path index = root_.path() / "p.pack", shard = root_.path() / "p.pack.000";
  pack_images(*source(), index, {}, [](int64_t, int64_t) {});
  const auto size = fs::file_size(shard);
  fs::resize_file(shard, size - 1);
  EXPECT_SAYS(message_of<Error>([&] { open_images(index); }),
              fmt::format("{}: expected {} bytes, got {}", shard.string(), size, size - 1));
  fs::remove(shard);
  EXPECT_SAYS(message_of<Error>([&] { open_images(index); }), shard.string() + ": No such file");
}

}  // namespace
}  // namespace comba::datasets
