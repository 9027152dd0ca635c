// Packing: which bytes stay, what becomes of unusual files, and that nothing stops it for good.
#include "datasets/pack_images.h"

#include "datasets/decode.h"
#include "datasets/inspect.h"
#include "tests/base/full_disk.h"
#include "tests/base/temporary_folder.h"
#include "tests/datasets/memory_images.h"
#include "vision/base/error.h"
#include "vision/base/random.h"
#include "vision/base/stopwatch.h"

#include <csignal>
#include <map>

#include <opencv2/imgcodecs.hpp>
#include <sys/wait.h>
#include <unistd.h>

namespace comba::datasets {
namespace {
namespace fs = std::filesystem;

using testing_tools::FullDisk;
using testing_tools::message_of;
using testing_tools::TemporaryFolder;

const auto kQuiet = [](int64_t, int64_t) {};

std::string deep_png() {
  std::vector<uint8_t> bytes;
  cv::imencode(".png", cv::Mat(20, 30, CV_16UC3, cv::Scalar(0x1234, 0x8000, 0xfedc)), bytes);
  return {bytes.begin(), bytes.end()};
}

std::vector<MemoryImages::File> unusual_files() {
  const Image image = picture(40, 60, 3);
  return {{"plain.jpg", encode_jpeg(image, 90)},
          {"half_width.jpg", sampled_jpeg(image, 2, 1)},
          {"full_chroma.jpg", sampled_jpeg(image, 1, 1)},
          {"rotated.JPEG", with_orientation(encode_jpeg(image, 90), 6, true)},
          {"quarter_width.jpg", sampled_jpeg(image, 4, 1)},
          {"grey.jpg", encode_jpeg(picture(40, 60, 1), 90)},
          {"cmyk.jpg", one_colour_jpeg(JCS_CMYK, {255, 0, 0, 255}, true)},
          {"progressive.jpg", opencv_jpeg(image, {cv::IMWRITE_JPEG_PROGRESSIVE, 1})},
          {"rgb.jpg",
           libjpeg_file(image, JCS_RGB,
                        [](jpeg_compress_struct& info) { jpeg_set_colorspace(&info, JCS_RGB); })},
          {"really_png.JPEG", encode_png(image)},
          {"deep.png", deep_png()}};
}
constexpr size_t kPlain = 4;  // of them keep their bytes

std::map<std::string, std::string> packed_bytes(const fs::path& index) {
  const auto pack = open_pack(index);
  std::map<std::string, std::string> found;
  for (int64_t i = 0; i < pack->size(); ++i) {
    const EncodedSample sample = pack->read(i);
    found[pack->original(i)] = {sample.bytes.begin(), sample.bytes.end()};
  }
  return found;
}

TEST(PackImages, PlainJpegsKeepTheirBytesAndAllElseBecomesOne) {
  const TemporaryFolder folder;
  const auto files = unusual_files();
  const MemoryImages source(files);
  const PackReport report = pack_images(source, folder.path() / "p.pack", {.quality = 95}, kQuiet);
  EXPECT_TRUE(report.finished);
  EXPECT_EQ(report.images, 11);
  EXPECT_EQ(report.encoded, 11 - static_cast<int64_t>(kPlain));
  const auto packed = packed_bytes(folder.path() / "p.pack");
  ASSERT_EQ(packed.size(), files.size());
  for (size_t i = 0; i < files.size(); ++i) {
    SCOPED_TRACE(files[i].path);
    const std::string& bytes = packed.at(files[i].path);
    EXPECT_EQ(bytes == files[i].bytes, i < kPlain);
    EXPECT_TRUE(inspect_image(as_bytes(bytes), "").plain_jpeg);
    const Image before = decode_image(as_bytes(files[i].bytes), 3, "before"),
                after = decode_image(as_bytes(bytes), 3, "after");
    ASSERT_EQ(after.width, before.width);
    ASSERT_EQ(after.height, before.height);
    double sum = 0;
    for (size_t at = 0; at < before.pixels.size(); ++at) {
      sum += std::abs(int{before.pixels[at]} - int{after.pixels[at]});
    }
    EXPECT_LE(sum / static_cast<double>(before.pixels.size()), 2.5);
  }
}

TEST(PackImages, WhatIsUnusualIsCounted) {
  const TemporaryFolder folder;
  const PackReport report =
      pack_images(MemoryImages(unusual_files()), folder.path() / "p.pack", {}, kQuiet);
  const std::map<std::string, int64_t> expected = {
      {"grey", 1},         {"CMYK", 1},           {"progressive", 1},
      {"16 bits", 1},      {"not JPEG", 2},       {"EXIF orientation (not applied)", 1},
      {"unusual JPEG", 2}, {"wrong extension", 1}};
  EXPECT_EQ(report.peculiar, expected);
}

TEST(PackImages, AsIsKeepsEveryByte) {
  const TemporaryFolder folder;
  const auto files = unusual_files();
  pack_images(MemoryImages(files), folder.path() / "p.pack", {.as_is = true}, kQuiet);
  const auto packed = packed_bytes(folder.path() / "p.pack");
  for (const auto& file : files) {
    EXPECT_EQ(packed.at(file.path), file.bytes) << file.path;
  }
}

TEST(PackImages, LargerImagesShrinkToTheShortSide) {
  const TemporaryFolder folder;
  const std::string small = encode_jpeg(picture(30, 32, 3), 90);
  const MemoryImages source({{"wide.jpg", encode_jpeg(picture(100, 150, 3), 95)},
                             {"high.jpg", encode_jpeg(picture(99, 64, 3), 95)},
                             {"small.jpg", small}});
  pack_images(source, folder.path() / "p.pack", {.short_side = 32}, kQuiet);
  const auto packed = packed_bytes(folder.path() / "p.pack");
  const auto size = [&](const char* path) {
    const Image image = decode_image(as_bytes(packed.at(path)), 3, path);
    return std::pair(image.width, image.height);
  };
  EXPECT_EQ(size("wide.jpg"), std::pair(48, 32));
  EXPECT_EQ(size("high.jpg"), std::pair(32, 50));
  EXPECT_EQ(packed.at("small.jpg"), small);
}

// Files that no one can use, one for each cause.
std::vector<MemoryImages::File> bad_files() {
  const std::string jpeg = encode_jpeg(noisy_picture(64, 64, 3), 90);
  return {{"empty.jpg", ""},
          {"letter.jpg", "this is a letter"},
          {"cut.jpg", jpeg.substr(0, jpeg.size() / 2)},
          {"bomb.jpg", with_claimed_size(jpeg, 20000, 20000)},
          {"cut.png", encode_png(picture(9, 9, 3)).substr(0, 60)}};
}

TEST(PackImages, BadImagesLeaveThePackUnfinishedUntilTheyMayBeLeftOut) {
  const TemporaryFolder folder;
  const fs::path index = folder.path() / "p.pack";
  auto files = bad_files();
  files.insert(files.begin() + 2, {"good.jpg", encode_jpeg(picture(8, 8, 3), 90)});
  const MemoryImages source(files);
  const PackReport failed = pack_images(source, index, {}, kQuiet);
  EXPECT_FALSE(failed.finished);
  EXPECT_FALSE(fs::exists(index));
  using enum ImageProblem;
  const std::vector<ImageProblem> causes = {empty, unknown_format, damaged, too_large, damaged};
  ASSERT_EQ(failed.rejected.size(), causes.size());
  for (size_t i = 0; i < causes.size(); ++i) {
    EXPECT_EQ(failed.rejected[i].problem, causes[i]) << failed.rejected[i].path;
    EXPECT_EQ(failed.rejected[i].path, files[i < 2 ? i : i + 1].path);
    EXPECT_SAYS(failed.rejected[i].reason, "memory/" + failed.rejected[i].path);
  }
  int64_t begun = -1;
  const PackReport skipped =
      pack_images(source, index, {.skip_bad = true},
                  [&](int64_t done, int64_t) { begun = begun < 0 ? done : begun; });
  EXPECT_EQ(begun, 6) << "nothing is done again";
  EXPECT_TRUE(skipped.finished);
  EXPECT_EQ(skipped.rejected.size(), causes.size());
  EXPECT_EQ(packed_bytes(index).size(), 1U);
  EXPECT_EQ(packed_bytes(index).count("good.jpg"), 1U);
}

TEST(PackImages, NothingReadableIsAnErrorThatLeavesNothing) {
  const TemporaryFolder folder;
  const MemoryImages source(bad_files());
  const std::string message = message_of<Error>(
      [&] { pack_images(source, folder.path() / "p.pack", {.skip_bad = true}, kQuiet); });
  EXPECT_SAYS(message, "none of 5 images can be read");
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(PackImages, AFolderInThePlaceOfTheIndexIsNamed) {
  const TemporaryFolder folder;
  EXPECT_SAYS(message_of<Error>(
                  [&] { pack_images(MemoryImages(unusual_files()), folder.path(), {}, kQuiet); }),
              "is a folder");
}

TEST(PackImages, AnAbsentFolderIsMadeAndOneThatCannotBeIsNamed) {
  const TemporaryFolder folder;
  const MemoryImages source(unusual_files());
  const fs::path index = folder.path() / "new" / "and newer" / "p.pack";
  EXPECT_TRUE(pack_images(source, index, {.skip_bad = true}, kQuiet).finished);
  EXPECT_EQ(packed_bytes(index).size(), unusual_files().size());
  const std::string message = message_of<Error>(
      [&] { pack_images(source, index / "below a file" / "p.pack", {}, kQuiet); });
  EXPECT_SAYS(message, "making the folder " + (index / "below a file").string());
}

// Many images in several shards, with points to go on from every few of them.
class InterruptedPack : public testing::Test {
 protected:
  InterruptedPack() : source_(make_files()) {}

  static std::vector<MemoryImages::File> make_files() {
    std::vector<MemoryImages::File> files;
    for (int i = 0; i < 400; ++i) {
      const std::string name = std::to_string(i);
      if (i % 90 == 17) {
        files.push_back({name + ".jpg", "no image"});
      } else if (i % 5 == 0) {
        files.push_back({name + ".png", encode_png(picture(20 + i % 7, 31, 3, i))});
      } else {
        files.push_back({name + ".jpg", encode_jpeg(picture(40, 30 + i % 9, 3, i), 85)});
      }
    }
    return files;
  }
  static PackOptions options(int64_t threads = 2) {
    return {.short_side = 24,
            .skip_bad = true,
            .threads = threads,
            .shard_bytes = 60000,
            .save_bytes = 1};
  }
  fs::path index(const std::string& name) const { return folder_.path() / name / "p.pack"; }
  void pack(const std::string& name, const PackOptions& o) const {
    fs::create_directories(folder_.path() / name);
    pack_images(source_, index(name), o, kQuiet);
  }
  // Every file of the folder.
  std::map<std::string, std::string> contents(const std::string& name) const {
    std::map<std::string, std::string> found;
    for (const auto& entry : fs::directory_iterator(folder_.path() / name)) {
      found[entry.path().filename().string()] = read_file(entry.path());
    }
    return found;
  }

  // Names of the files that differ, or that only one has.
  static std::string differences(const std::map<std::string, std::string>& a,
                                 const std::map<std::string, std::string>& b) {
    std::string names;
    for (const auto& [name, content] : a) {
      names += b.count(name) == 0 || b.at(name) != content ? name + " " : "";
    }
    for (const auto& [name, content] : b) {
      names += a.count(name) == 0 ? name + " " : "";
    }
    return names;
  }

  const TemporaryFolder folder_;
  MemoryImages source_;
};

TEST_F(InterruptedPack, TheBytesDoNotDependOnTheThreads) {
  pack("one", options(1));
  const auto expected = contents("one");
  EXPECT_GT(expected.size(), 3U) << "an index and several shards";
  for (const int64_t threads : {2, 7, 13}) {
    pack("more", options(threads));
    EXPECT_EQ(differences(contents("more"), expected), "") << threads;
    fs::remove_all(folder_.path() / "more");
  }
}

TEST_F(InterruptedPack, KilledAtAnyMomentItGoesOnAndEndsWithTheSameBytes) {
  const Stopwatch watch;
  pack("whole", options());
  const double whole = watch.seconds();
  const auto expected = contents("whole");
  RandomStream random(1, 0, 0, RandomPurpose::synthesise);
  int kills = 0;
  for (int round = 0; kills < 15; ++round) {
    ASSERT_LT(round, 200) << "the kills come too late";
    const std::string name = "killed" + std::to_string(round);
    for (bool finished = false; !finished;) {
      const pid_t child = fork();
      if (child == 0) {
        pack(name, options());
        _exit(0);
      }
      usleep(static_cast<useconds_t>(1e6 * random.uniform(0, whole)));
      kill(child, SIGKILL);
      int status = 0;
      waitpid(child, &status, 0);
      finished = WIFEXITED(status);
      kills += finished ? 0 : 1;
      if (!finished && fs::exists(index(name))) {  // then it is whole
        EXPECT_EQ(packed_bytes(index(name)).size(), packed_bytes(index("whole")).size());
      }
    }
    EXPECT_EQ(differences(contents(name), expected), "");
  }
}

TEST_F(InterruptedPack, KilledBetweenAnyTwoCommitsItGoesOn) {
  pack("whole", options());
  const auto expected = contents("whole");
  // What is there when the process dies right before the index appears: shards with either name, and the journal.
  PackOptions unfinished = options();
  unfinished.skip_bad = false;
  const size_t shards = expected.size() - 1;
  for (size_t renamed = 0; renamed <= shards; ++renamed) {
    const std::string name = "commit" + std::to_string(renamed);
    pack(name, unfinished);
    for (size_t i = 0; i < renamed; ++i) {
      const std::string shard = fmt::format("{}.{:03}", index(name).string(), i);
      fs::rename(shard + ".partial", shard);
    }
    pack(name, options());
    EXPECT_EQ(differences(contents(name), expected), "") << renamed;
  }
}

TEST_F(InterruptedPack, WhatCannotBeReadNowIsTriedAgain) {
  pack("whole", options());
  PackOptions careful = options();
  careful.skip_bad = false;
  source_.unreadable = 333;
  const std::string message = message_of<Error>([&] { pack("disk", careful); });
  EXPECT_SAYS(message, "reading memory/333.jpg: a bad sector; --on-bad skip leaves it out");
  EXPECT_SAYS(message, "the same command goes on");
  source_.unreadable = -1;
  pack("disk", options());
  EXPECT_EQ(differences(contents("disk"), contents("whole")), "");
  source_.unreadable = 333;
  EXPECT_EQ(pack_images(source_, index("whole"), options(), kQuiet).rejected.size(), 6U);
}

TEST_F(InterruptedPack, TimeAloneMakesAPointToGoOnFrom) {
  PackOptions slow = options();
  slow.save_bytes = uint64_t{1} << 40;
  slow.save_seconds = 0.01;
  fs::create_directories(folder_.path() / "slow");
  const auto stop = [](int64_t done, int64_t) {
    usleep(20000);
    COMBA_CHECK(done < 300, "stopped");
  };
  EXPECT_SAYS(message_of<Error>([&] { pack_images(source_, index("slow"), slow, stop); }),
              "stopped");
  int64_t begun = -1;
  pack_images(source_, index("slow"), slow,
              [&](int64_t done, int64_t) { begun = begun < 0 ? done : begun; });
  EXPECT_GE(begun, 256);
}

TEST_F(InterruptedPack, AFullDiskIsNamedAndWithSpaceItGoesOn) {
  pack("whole", options());
  const auto expected = contents("whole");
  for (const rlim_t bytes : {100, 5000, 20000, 59000}) {
    const std::string name = "full" + std::to_string(bytes);
    {
      const FullDisk full(bytes);
      const std::string message = message_of<Error>([&] { pack(name, options()); });
      EXPECT_SAYS(message, "p.pack.");
      EXPECT_SAYS(message, "writing byte " + std::to_string(bytes));
      EXPECT_SAYS(message, "free some space");
      EXPECT_SAYS(message, "the same command goes on");
    }
    EXPECT_FALSE(fs::exists(index(name)));
    pack(name, options());
    EXPECT_EQ(differences(contents(name), expected), "");
  }
}

TEST_F(InterruptedPack, WithOtherOptionsOrImagesItIsRefusedByName) {
  PackOptions unfinished = options();
  unfinished.skip_bad = false;
  pack("begun", unfinished);
  const auto refusal = [&](const PackOptions& o) {
    return message_of<Error>([&] { pack("begun", o); });
  };
  PackOptions other = options();
  other.quality = 50;
  EXPECT_SAYS(refusal(other), "begun with quality = 90, this call has 50");
  other = options();
  other.short_side = 0;
  EXPECT_SAYS(refusal(other), "short side = 24");
  other = options();
  other.as_is = true;
  EXPECT_SAYS(refusal(other), "as is");
  source_.set_fingerprint("another list");
  EXPECT_SAYS(refusal(options()), "begun with source = \"memory\"");
  EXPECT_SAYS(refusal(options()), "p.pack.journal");
}

TEST_F(InterruptedPack, AJournalCutOrDamagedAnywhereStillEndsWithTheSameBytes) {
  pack("whole", options());
  const auto expected = contents("whole");
  PackOptions unfinished = options();
  unfinished.skip_bad = false;
  pack("begun", unfinished);
  const fs::path journal = index("begun").string() + ".journal";
  const std::string good = read_file(journal);
  for (int i = 0; i < 12; ++i) {
    fs::remove_all(folder_.path() / "again");
    fs::copy(folder_.path() / "begun", folder_.path() / "again");
    std::string bad = good.substr(0, good.size() * i / 12);
    if (i % 2 == 1) {
      bad = good;
      bad[good.size() * i / 12] ^= 16;
    } else if (i % 4 == 2) {
      bad.resize(good.size(), '\0');
    }
    write_file_atomic(index("again").string() + ".journal", bad);
    pack("again", options());
    EXPECT_EQ(differences(contents("again"), expected), "") << i;
  }
}

TEST_F(InterruptedPack, AShardThatWasCutShortIsNamed) {
  PackOptions unfinished = options();
  unfinished.skip_bad = false;
  pack("begun", unfinished);
  const std::string shard = index("begun").string() + ".001.partial";
  fs::resize_file(shard, 100);
  EXPECT_SAYS(message_of<Error>([&] { pack("begun", options()); }), shard);
}

TEST_F(InterruptedPack, AnotherPackInItsPlaceStaysUntilItIsReplacedWhole) {
  pack("place", options());
  const auto before = contents("place");
  PackOptions other = options();
  other.quality = 20;
  other.skip_bad = false;
  pack("place", other);
  for (const auto& [name, content] : before) {
    EXPECT_EQ(contents("place").at(name), content) << name;
  }
  other.skip_bad = true;
  pack("place", other);
  pack("expected", other);
  EXPECT_EQ(differences(contents("place"), contents("expected")), "")
      << "no shard of the larger pack is left";
}

}  // namespace
}  // namespace comba::datasets
