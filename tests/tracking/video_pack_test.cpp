// Videos in a pack: training on it is training on the folder, bit for bit.
#include "tracking/video_pack.h"

#include "datasets/decode.h"
#include "tests/base/temporary_folder.h"
#include "tests/tracking/folder.h"
#include "tracking/pair_loader.h"
#include "tracking/synthetic_benchmark.h"
#include "tracking/training_data.h"
#include "tracking/video_problems.h"
#include "vision/base/error.h"
#include "vision/base/files.h"

namespace comba::tracking {
namespace {

namespace fs = std::filesystem;
using testing_tools::message_of;

class VideoPackTest : public FolderTest {
 protected:
  std::string at(const std::string& kind, const std::string& place) const {
    return kind + ":" + (root / place).string();
  }
  VideoPackReport pack(const std::string& specification, VideoPackOptions options = {}) const {
    return pack_videos(list_videos(specification), root / "v.pack", options, [](int64_t) {});
  }
  void synthesise(bool lasot) const {
    SyntheticOptions options;
    options.sequences = 3;
    options.frames = 24;
    options.width = 96;
    options.height = 64;
    options.split = "val";
    (lasot ? write_synthetic_lasot : write_synthetic_got10k)(root / "set", options, [](int) {});
  }
  static std::string jpeg(int width, int height) {
    return datasets::encode_jpeg(
        {height, width, 3, std::vector<uint8_t>(static_cast<size_t>(width) * height * 3, 90)}, 90);
  }
  void coco() const {
    write(
        "set/annotations/instances_train2017.json",
        R"({"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}], "annotations": [
             {"id": 5, "image_id": 1, "bbox": [3, 4, 20, 10]}, {"id": 6, "image_id": 1, "bbox": [30, 14, 9, 9]},
             {"id": 7, "image_id": 2, "bbox": [8, 8, 16, 16]}, {"id": 8, "image_id": 2, "bbox": [8, 8, 0, 16]},
             {"id": 9, "image_id": 1, "bbox": [1, 1, 30, 30]}]})");
    write("set/train2017/a.jpg", jpeg(64, 48));
    write("set/train2017/b.jpg", jpeg(60, 40));
  }

  std::vector<PairBatch> batches(const std::string& specification) const {
    const auto sampler = std::make_shared<PairSampler>(
        std::vector<TrainingSet>{read_training_set(specification, true, 2)}, std::vector<double>{1},
        2);
    PairLoaderOptions options;
    options.templates = 2;
    options.crops.template_size = 32;
    options.crops.search_size = 64;
    options.batch_size = 16;
    options.samples = 64;
    options.threads = 2;
    PairLoader loader(sampler, options);
    loader.start(1, 0);
    std::vector<PairBatch> all;
    for (PairBatch batch; loader.next(batch);) {
      all.push_back(batch);
    }
    return all;
  }
  void expect_same_pairs(const std::string& specification) const {
    const auto folder = batches(specification), packed = batches(at("pack", "v.pack"));
    ASSERT_EQ(folder.size(), 4U);
    ASSERT_EQ(packed.size(), 4U);
    for (size_t n = 0; n < folder.size(); ++n) {
      EXPECT_EQ(folder[n].templates, packed[n].templates);
      EXPECT_EQ(folder[n].search, packed[n].search);
      EXPECT_EQ(folder[n].targets, packed[n].targets);
    }
    EXPECT_EQ(fingerprint({read_training_set(specification, true, 1)}),
              fingerprint({read_training_set(at("pack", "v.pack"), true, 1)}))
        << "a run may go on with the other";
  }
};

TEST_F(VideoPackTest, GivesTheSamePairsAsTheFolder) {
  for (const bool lasot : {false, true}) {
    fs::remove_all(root / "set");
    synthesise(lasot);
    const std::string folder = at(lasot ? "lasot" : "got10k", "set");
    const VideoPackReport report = pack(folder);
    EXPECT_EQ(report.videos, 3U);
    EXPECT_EQ(report.frames, 72U);
    EXPECT_TRUE(report.rejected.empty());
    expect_same_pairs(folder);
  }
}

TEST_F(VideoPackTest, GivesTheSamePairsOfTrackingNetAndOwnVideos) {
  for (const char* name : {"one", "two"}) {
    std::string boxes;
    for (int i = 0; i < 22; ++i) {
      const std::string image = jpeg(64 + i, 48);  // sizes change
      write(fmt::format("net/TRAIN_3/frames/{}/{}.jpg", name, i), image);
      write(fmt::format("own/{}/{}.jpg", name, i), image);
      boxes += fmt::format("{},10,20,{}\n", i, i == 4 ? 0 : 12);
    }
    write(fmt::format("net/TRAIN_3/anno/{}.txt", name), boxes);
    write(fmt::format("own/{}/groundtruth.txt", name), boxes);
  }
  for (const std::string& folder : {at("trackingnet", "net"), at("video", "own")}) {
    EXPECT_EQ(pack(folder).frames, 44U);
    expect_same_pairs(folder);
  }
}

TEST_F(VideoPackTest, AnImageWithSeveralObjectsIsStoredOnce) {
  coco();
  const VideoPackReport report = pack(at("coco", "set"));
  EXPECT_EQ(report.videos, 5U);
  EXPECT_EQ(report.frames, 5U);
  expect_same_pairs(at("coco", "set"));
  EXPECT_LT(fs::file_size(root / "v.pack.000"), fs::file_size(root / "set/train2017/a.jpg") +
                                                    fs::file_size(root / "set/train2017/b.jpg") +
                                                    128);
  EXPECT_TRUE(video_problems(list_videos(at("pack", "v.pack"))).lines.empty());
}

TEST_F(VideoPackTest, FramesKeepTheirBytesAndNames) {
  synthesise(false);
  pack(at("got10k", "set"));
  const auto videos = list_videos(at("pack", "v.pack"));
  ASSERT_EQ(videos.size(), 3U);
  const TrainingVideo video = videos[1].read();
  EXPECT_EQ(video.name, "GOT-10k_Val_000002");
  const datasets::EncodedSample sample = video.read(6);
  EXPECT_EQ(std::string(sample.bytes.begin(), sample.bytes.end()),
            read_file(root / "set/GOT-10k_Val_000002/00000007.jpg"));
  EXPECT_SAYS(video.frame_name(6), "v.pack[30] GOT-10k_Val_000002/00000007.jpg");
}

TEST_F(VideoPackTest, ThreadsDoNotChangeItsBytes) {
  synthesise(false);
  pack(at("got10k", "set"), {.threads = 1});
  const std::string index = read_file(root / "v.pack"), shard = read_file(root / "v.pack.000");
  pack(at("got10k", "set"), {.threads = 5});
  EXPECT_EQ(read_file(root / "v.pack"), index);
  EXPECT_EQ(read_file(root / "v.pack.000"), shard);
}

TEST_F(VideoPackTest, AVideoThatCannotBeReadIsLeftOutWholeAndNamed) {
  synthesise(false);
  const std::string folder = at("got10k", "set");
  write("set/GOT-10k_Val_000001/00000009.jpg", "no image");
  const VideoPackReport report = pack(folder);
  EXPECT_EQ(report.videos, 2U);
  EXPECT_EQ(report.frames, 48U);
  ASSERT_EQ(report.rejected.size(), 1U);
  EXPECT_SAYS(report.rejected[0], "GOT-10k_Val_000001");
  EXPECT_SAYS(report.rejected[0], "00000009.jpg");
  write("rest.txt", "1\n2\n");
  expect_same_pairs(folder + "#" + (root / "rest.txt").string());

  fs::remove(root / "set/GOT-10k_Val_000002/cover.label");
  fs::remove(root / "set/GOT-10k_Val_000003/00000024.jpg");
  fs::remove(root / "v.pack");
  EXPECT_SAYS(message_of<Error>([&] { pack(folder); }), "none of 3 videos can be read");
  EXPECT_SAYS(message_of<Error>([&] { pack(folder, {.strict = true}); }), "3 of 3 videos");
  EXPECT_FALSE(fs::exists(root / "v.pack")) << "whole or absent";
}

TEST_F(VideoPackTest, ABadImageTakesItsObjectsWithIt) {
  coco();
  write("set/train2017/a.jpg", "no image");
  const VideoPackReport report = pack(at("coco", "set"));
  EXPECT_EQ(report.videos, 2U);
  ASSERT_EQ(report.rejected.size(), 3U);
  EXPECT_SAYS(report.rejected[0], "1-5: decoding");
  EXPECT_SAYS(report.rejected[2], "1-9: its image cannot be read");
}

TEST_F(VideoPackTest, ADamagedFrameIsNamedWhenItIsRead) {
  synthesise(false);
  pack(at("got10k", "set"));
  std::string shard = read_file(root / "v.pack.000");
  shard[shard.size() - 3] ^= 4;
  write_file_atomic(root / "v.pack.000", shard);
  const TrainingVideo video = list_videos(at("pack", "v.pack"))[2].read();
  EXPECT_NO_THROW(video.read(22));
  EXPECT_SAYS(message_of<Error>([&] { video.read(23); }),
              "v.pack[71] GOT-10k_Val_000003/00000024.jpg");
}

TEST_F(VideoPackTest, OtherPacksAreToldApart) {
  datasets::PackWriter images(root / "images.pack", {"cat"});
  images.add("bytes", 1, 1, 0, "p");
  images.finish();
  EXPECT_SAYS(message_of<Error>([&] { list_videos(at("pack", "images.pack")); }),
              "it holds images, not videos");
  datasets::PackWriter wrong(root / "wrong.pack", {"cat"});
  wrong.add("bytes", 1, 1, 0, "p");
  wrong.finish(std::string("VIDEOS 1") + std::string(8, '\0') + "too short");
  EXPECT_SAYS(message_of<Error>([&] { list_videos(at("pack", "wrong.pack")); }),
              "expected 49 bytes of boxes and flags for 1 frames, got 25");
  datasets::PackWriter mixed(root / "mixed.pack", {"a", "b"});
  for (const int64_t label : {1, 0}) {
    mixed.add("bytes", 1, 1, label, "p");
  }
  mixed.finish(std::string("VIDEOS 1") + std::string(8 + 66, '\0'));
  EXPECT_SAYS(message_of<Error>([&] { list_videos(at("pack", "mixed.pack")); }),
              "frame 0 is of video 1");
}

}  // namespace
}  // namespace comba::tracking
