// The pack: what goes in comes out, and damage is found before a wrong image is.
#include "datasets/pack.h"

#include "datasets/folder.h"
#include "tests/base/temporary_folder.h"
#include "tests/datasets/pictures.h"
#include "vision/base/error.h"

namespace comba::datasets {
namespace {
namespace fs = std::filesystem;

using testing_tools::message_of;
using testing_tools::TemporaryFolder;

class Pack : public testing::Test {
 protected:
  void write(uint64_t shard_bytes = kShardBytes) {
    PackWriter writer(index_, {"cat", "dog", "no images"}, shard_bytes);
    for (int i = 0; i < 5; ++i) {
      writer.add(image(i), 10 + i, 20 + i, i % 2, "some/path " + std::to_string(i) + ".jpg");
    }
    writer.finish();
  }
  static std::string image(int i) {
    return "encoded image " + std::string(static_cast<size_t>(50 * i), 'a');
  }

  // Opens and reads every image.
  void use() const {
    const auto source = open_pack(index_);
    for (int64_t i = 0; i < source->size(); ++i) {
      source->read(i);
    }
  }
  std::string error() const {
    return message_of<Error>([&] { use(); });
  }
  void overwrite(const fs::path& path, const std::string& content) const {
    write_file_atomic(path, content);
  }

  // A bit of every byte of the index, one after the other.
  void expect_every_flip_found() const {
    const std::string good = read_file(index_);
    for (size_t at = 0; at < good.size(); ++at) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ 1 << at % 8);
      overwrite(index_, bad);
      EXPECT_SAYS(error(), "train.pack");
    }
  }

  TemporaryFolder folder_;
  fs::path index_ = folder_.path() / "train.pack";
  fs::path shard_ = folder_.path() / "train.pack.000";
};

TEST_F(Pack, GivesBackWhatWentIn) {
  for (const uint64_t shard_bytes : {kShardBytes, uint64_t{128}}) {
    write(shard_bytes);
    EXPECT_EQ(fs::exists(folder_.path() / "train.pack.001"), shard_bytes == 128);
    const auto source = open_pack(index_);
    ASSERT_EQ(source->size(), 5);
    EXPECT_EQ(source->classes(), (std::vector<std::string>{"cat", "dog", "no images"}));
    for (int i = 0; i < 5; ++i) {
      const EncodedSample sample = source->read(i);
      EXPECT_EQ(std::string(sample.bytes.begin(), sample.bytes.end()), image(i));
      EXPECT_EQ(sample.label, i % 2);
      EXPECT_EQ(source->original(i), "some/path " + std::to_string(i) + ".jpg");
      EXPECT_SAYS(sample.name, "train.pack[" + std::to_string(i) + "] some/path");
    }
  }
}

TEST_F(Pack, TheSameImagesGiveTheSameBytes) {
  write();
  const std::string index = read_file(index_), shard = read_file(shard_);
  write();
  EXPECT_EQ(read_file(index_), index);
  EXPECT_EQ(read_file(shard_), shard);
}

TEST_F(Pack, AFlippedBitInAnyByteOfTheIndexIsFound) {
  write();
  expect_every_flip_found();
}

TEST_F(Pack, AnIndexCutAnywhereIsRefused) {
  write();
  const std::string good = read_file(index_);
  for (size_t length = 0; length < good.size(); ++length) {
    overwrite(index_, good.substr(0, length));
    EXPECT_SAYS(error(), "train.pack");
  }
}

TEST_F(Pack, ADamagedImageIsNamedWithItsPlace) {
  write();
  std::string shard = read_file(shard_);
  shard[shard.size() - 3] ^= 4;
  overwrite(shard_, shard);
  const std::string message = error();
  EXPECT_SAYS(message, "train.pack[4] some/path 4.jpg");
  EXPECT_SAYS(message, "checksum");
  EXPECT_SAYS(message, "train.pack.000");
}

TEST_F(Pack, AShortOrMissingShardIsNamed) {
  write();
  overwrite(shard_, read_file(shard_).substr(0, 100));
  EXPECT_SAYS(error(), "train.pack.000");
  fs::remove(shard_);
  EXPECT_SAYS(error(), "train.pack.000");
}

TEST_F(Pack, AFileOfAnotherKindIsCalledThat) {
  overwrite(index_, std::string(200, 'x'));
  EXPECT_SAYS(error(), "it is not a pack index");
}

TEST_F(Pack, IsAbsentUntilItIsFinished) {
  {
    PackWriter writer(index_, {"a"});
    writer.add("bytes", 1, 1, 0, "p");
  }
  EXPECT_TRUE(fs::is_empty(folder_.path()));
}

TEST_F(Pack, AnAttachmentComesBackAndIsUnderTheChecksum) {
  write();
  EXPECT_TRUE(open_pack(index_)->attachment().empty());
  EXPECT_EQ(read_file(index_)[8], 1) << "a plain pack stays one of version 1";
  PackWriter writer(index_, {});
  writer.add(image(1), 10, 20, 0, "a.jpg");
  writer.name_classes({"only"});
  writer.finish("what belongs to it");
  const auto pack = open_pack(index_);
  EXPECT_EQ(std::string(pack->attachment().begin(), pack->attachment().end()),
            "what belongs to it");
  EXPECT_EQ(pack->classes(), std::vector<std::string>{"only"});
  EXPECT_EQ(pack->original(0), "a.jpg");
  expect_every_flip_found();
}

TEST_F(Pack, RecordsMayShareAnImageAndMayBeTakenBack) {
  PackWriter writer(index_, {"a", "b", "c"});
  writer.add(image(1), 10, 20, 0, "one.jpg");
  writer.add(image(2), 10, 20, 1, "two.jpg");
  writer.forget(1);
  writer.add(image(3), 10, 20, 1, "three.jpg");
  writer.add_again(2);
  writer.finish();
  const auto pack = open_pack(index_);
  ASSERT_EQ(pack->size(), 3);
  const auto content = [&](int64_t n) {
    const EncodedSample sample = pack->read(n);
    return std::string(sample.bytes.begin(), sample.bytes.end());
  };
  EXPECT_EQ(content(0), image(1));
  EXPECT_EQ(content(1), image(3));
  EXPECT_EQ(content(2), image(3));
  EXPECT_EQ(pack->original(2), "three.jpg");
  EXPECT_EQ(pack->label(2), 2);
  EXPECT_EQ(pack->read(1).bytes.data(), pack->read(2).bytes.data()) << "stored once";
  PackWriter empty(index_, {"a"});
  EXPECT_SAYS(message_of<Error>([&] { empty.add_again(0); }), "no image to add again");
  EXPECT_SAYS(message_of<Error>([&] { empty.forget(1); }), "cannot be taken back");
}

TEST_F(Pack, RefusesSizesItCannotHold) {
  PackWriter writer(index_, {"a"});
  EXPECT_SAYS(message_of<Error>([&] { writer.add("x", 70000, 10, 0, "wide.jpg"); }), "wide.jpg");
}

}  // namespace
}  // namespace comba::datasets
