// Annotations to train on, in the layouts they come in, and which frames of them make a sample.
#include "datasets/decode.h"
#include "tests/base/temporary_folder.h"
#include "tests/tracking/folder.h"
#include "tracking/pair_sampler.h"
#include "tracking/video_problems.h"
#include "vision/base/error.h"

#include <map>

namespace comba::tracking {
namespace {

std::string lines(int count, const std::string& line) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    text += line + "\n";
  }
  return text;
}

class TrainingDataTest : public FolderTest {
 protected:
  void got10k_sequence(const std::string& name, int frames, const std::string& cover,
                       const std::string& absent) const {
    write("got/" + name + "/groundtruth.txt", lines(frames, "10,20,30,40"));
    write("got/" + name + "/cover.label", cover);
    write("got/" + name + "/absence.label", absent);
    write("got/" + name + "/00000001.jpg", "");
    write("got/" + name + "/meta_info.ini", "[METAINFO]\nresolution: (64, 48)\n");
  }
  TrainingSet read(const std::string& specification, bool skip = true) const {
    return read_training_set(specification, skip, 2);
  }
};

TEST_F(TrainingDataTest, Got10kUsesFramesThatAreNotAbsentAndCovered) {
  got10k_sequence("A", 20, "8\n0\n" + lines(18, "8"), "0\n0\n1\n" + lines(17, "0"));
  write("got/list.txt", "A\n");
  const TrainingSet set = read("got10k:" + (root / "got").string());
  ASSERT_EQ(set.videos.size(), 1U);
  const TrainingVideo& video = set.videos[0];
  EXPECT_EQ(video.frame_name(4), (root / "got" / "A" / "00000005.jpg").string());
  EXPECT_EQ(video.usable[0], 1);
  EXPECT_EQ(video.usable[1], 0) << "covered";
  EXPECT_EQ(video.usable[2], 0) << "absent";
  EXPECT_EQ(video.usable[3], 1);
}

TEST_F(TrainingDataTest, ShortAndKnownBadSequencesAreLeftOut) {
  for (const char* name : {"GOT-10k_Train_000001", "GOT-10k_Train_008630"}) {
    got10k_sequence(name, 25, lines(25, "8"), lines(25, "0"));
  }
  got10k_sequence("short", 19, lines(19, "8"), lines(19, "0"));
  got10k_sequence("hidden", 25, lines(25, "0"), lines(25, "0"));
  write("got/list.txt", "GOT-10k_Train_000001\nGOT-10k_Train_008630\nshort\nhidden\n");
  const std::string all = "got10k:" + (root / "got").string();
  EXPECT_EQ(read(all).videos.size(), 1U);
  EXPECT_EQ(read(all).left_out, 3);
  EXPECT_EQ(read(all, false).videos.size(), 2U);
}

TEST_F(TrainingDataTest, FramesWithoutABoxOfNumbersWithAnAreaAreNotUsed) {
  got10k_sequence("A", 20, lines(20, "8"), lines(20, "0"));
  write("got/A/groundtruth.txt",
        "nan,nan,nan,nan\n10,nan,30,40\n10,20,0,40\n10,20,30,-4\n" + lines(16, "10,20,30,40"));
  write("got/list.txt", "A\n");
  const TrainingSet set = read("got10k:" + (root / "got").string());
  std::vector<uint8_t> expected(20, 1);
  std::fill_n(expected.begin(), 4, 0);
  EXPECT_EQ(set.videos[0].usable, expected);
}

TEST_F(TrainingDataTest, WrongLengthsAndEmptyTruthAreNamed) {
  const auto error_of = [&](const std::string& specification) {
    return testing_tools::message_of<Error>([&] { read(specification); });
  };
  const std::string got = "got10k:" + (root / "got").string();
  write("got/list.txt", "A\n");
  got10k_sequence("A", 20, lines(19, "8"), lines(20, "0"));
  EXPECT_SAYS(error_of(got), "cover.label: expected 20 flags, one for each box of groundtruth");
  got10k_sequence("A", 20, lines(20, "8"), lines(21, "0"));
  EXPECT_SAYS(error_of(got), "absence.label: expected 20 flags");
  write("got/A/groundtruth.txt", "");
  EXPECT_SAYS(error_of(got), "groundtruth.txt: expected one box a frame, got an empty file");
  got10k_sequence("A", 20, lines(20, "8"), lines(20, "0"));
  std::filesystem::remove(root / "got/A/00000001.jpg");
  EXPECT_SAYS(error_of(got), "expected the images");

  write("lasot/cat/cat-1/groundtruth.txt", lines(20, "1,2,3,4"));
  write("lasot/cat/cat-1/full_occlusion.txt", "0,0,0");
  EXPECT_SAYS(error_of("lasot:" + (root / "lasot").string()),
              "full_occlusion.txt: expected 20 flags");

  write("net/TRAIN_0/anno/x.txt", "");
  write("net/TRAIN_0/frames/x/0.jpg", "");
  EXPECT_SAYS(error_of("trackingnet:" + (root / "net").string()), "none of its 1 sequences");
}

TEST_F(TrainingDataTest, AFileChoosesByNameOrPlace) {
  for (const char* name : {"A", "B", "C"}) {
    got10k_sequence(name, 20, lines(20, "8"), lines(20, "0"));
  }
  write("got/list.txt", "A\nB\nC\n");
  write("some.txt", "2\nA\n");
  const TrainingSet set =
      read("got10k:" + (root / "got").string() + "#" + (root / "some.txt").string());
  ASSERT_EQ(set.videos.size(), 2U);
  EXPECT_EQ(set.videos[0].name, "C");
  EXPECT_EQ(set.videos[1].name, "A");
  write("some.txt", "3\n");
  EXPECT_THROW(read("got10k:" + (root / "got").string() + "#" + (root / "some.txt").string()),
               Error);
}

TEST_F(TrainingDataTest, TrackingNetAndOwnVideosAreRead) {
  write("net/TRAIN_0/anno/x.txt", lines(20, "1,2,3,4"));
  write("net/TRAIN_0/frames/x/0.jpg", "");
  const TrainingSet net = read("trackingnet:" + (root / "net").string());
  ASSERT_EQ(net.videos.size(), 1U);
  EXPECT_EQ(net.videos[0].frames->file_name(19), "19.jpg");

  write("own/cat/groundtruth.txt", lines(20, "1 2 3 4"));
  for (int i = 1; i <= 20; ++i) {
    write(fmt::format("own/cat/f{}.png", i), "");
  }
  const TrainingSet own = read("video:" + (root / "own").string());
  ASSERT_EQ(own.videos.size(), 1U);
  EXPECT_EQ(own.videos[0].frames->file_name(1), "f2.png") << "numbers in order, not letters";
  EXPECT_EQ(own.videos[0].frames->file_name(9), "f10.png");
  write("own/cat/f21.png", "");
  EXPECT_THROW(read("video:" + (root / "own").string()), Error) << "21 images, 20 boxes";
}

TEST_F(TrainingDataTest, WrongSpecificationsSayWhatIsExpected) {
  for (const std::string text : {"", "got10k", "coco17:/x", "got10k:/nowhere/at/all",
                                 "pack:/nowhere.pack", "coco:/nowhere"}) {
    try {
      read(text);
      FAIL() << text;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("training data"), std::string::npos) << error.what();
    }
  }
}

TEST_F(TrainingDataTest, TheFingerprintKnowsBoxesAndFlags) {
  got10k_sequence("A", 20, lines(20, "8"), lines(20, "0"));
  write("got/list.txt", "A\n");
  const std::string all = "got10k:" + (root / "got").string();
  const std::string before = fingerprint({read(all)});
  EXPECT_EQ(fingerprint({read(all)}), before);
  write("got/A/cover.label", "0\n" + lines(19, "8"));
  EXPECT_NE(fingerprint({read(all)}), before);
}

TEST_F(TrainingDataTest, EveryProblemOfAVideoIsNamed) {
  const auto jpeg = [](int width, int height) {
    return datasets::encode_jpeg(
        {height, width, 3, std::vector<uint8_t>(static_cast<size_t>(width) * height * 3, 90)}, 90);
  };
  for (int i = 1; i <= 20; ++i) {
    write(fmt::format("own/cat/{}.jpg", i), jpeg(64, 48));
  }
  write("own/cat/groundtruth.txt", lines(10, "1,2,3,4") + "70,2,3,4\n" + lines(9, "1,2,3,4"));
  write("own/cat/5.jpg", jpeg(60, 48));
  write("own/cat/7.jpg", "no image");
  write("own/dog/1.jpg", jpeg(64, 48));
  write("own/dog/groundtruth.txt", "1,2,3\n");
  const auto videos = list_videos("video:" + (root / "own").string());
  ASSERT_EQ(videos.size(), 2U);
  const auto cat = video_problems({&videos[0], 1}).lines,
             dog = video_problems({&videos[1], 1}).lines;
  EXPECT_EQ(video_problems(videos).videos, 2U);
  ASSERT_EQ(cat.size(), 3U);
  EXPECT_NE(cat[0].find("5.jpg: 60 x 48 pixels, the first frame has 64 x 48"), std::string::npos);
  EXPECT_NE(cat[1].find("7.jpg"), std::string::npos);
  EXPECT_NE(cat[2].find("11.jpg: the box 70,2,3,4 lies outside"), std::string::npos);
  ASSERT_EQ(dog.size(), 1U);
  EXPECT_NE(dog[0].find("groundtruth.txt:1"), std::string::npos);
}

TrainingSet made_up(const std::string& name, int videos, const std::vector<uint8_t>& usable) {
  TrainingSet set{name, {}, 0};
  for (int i = 0; i < videos; ++i) {
    set.videos.push_back(
        {fmt::format("{}{}", name, i), {}, std::vector<Box>(usable.size(), {1, 1, 2, 2}), usable});
  }
  return set;
}

TEST(PairSampler, DrawsUsableFramesInOrderWithinTheGap) {
  std::vector<uint8_t> usable(500, 1);
  for (size_t i = 0; i < usable.size(); i += 3) {
    usable[i] = 0;
  }
  const PairSampler sampler({made_up("a", 3, usable)}, {1}, 2);
  RandomStream random(1, 0, 0, RandomPurpose::pair);
  size_t farthest = 0;
  for (int i = 0; i < 5000; ++i) {
    const PairDraw draw = sampler.draw(random);
    ASSERT_EQ(draw.templates.size(), 2U);
    ASSERT_LT(draw.templates[1], draw.templates[0]);
    ASSERT_LT(draw.templates[0], draw.search);
    for (const size_t frame : {draw.templates[0], draw.templates[1], draw.search}) {
      ASSERT_EQ(usable[frame], 1);
    }
    farthest = std::max(farthest, draw.search - draw.templates[0]);
  }
  EXPECT_GT(farthest, 150U);
  EXPECT_LT(farthest, 230U);
}

TEST(PairSampler, WidensTheGapWhereTheTargetIsAwayForLong) {
  std::vector<uint8_t> usable(900, 0);
  usable[0] = usable[899] = 1;
  const PairSampler sampler({made_up("a", 1, usable)}, {1}, 1);
  RandomStream random(2, 0, 0, RandomPurpose::pair);
  const PairDraw draw = sampler.draw(random);
  EXPECT_EQ(draw.templates[0], 0U);
  EXPECT_EQ(draw.search, 899U);
}

TEST(PairSampler, DrawsSetsByTheirRatiosAndVideosAlike) {
  const std::vector<uint8_t> usable(30, 1);
  const PairSampler sampler({made_up("a", 4, usable), made_up("b", 1, usable)}, {1, 3}, 1);
  std::map<std::string, int> drawn;
  RandomStream random(3, 0, 0, RandomPurpose::pair);
  for (int i = 0; i < 16000; ++i) {
    ++drawn[sampler.draw(random).video->name];
  }
  EXPECT_NEAR(drawn["b0"], 12000, 400);
  for (int i = 0; i < 4; ++i) {
    EXPECT_NEAR(drawn[fmt::format("a{}", i)], 1000, 150);
  }
}

TEST(PairSampler, AStillImageIsTemplateAndSearchAtOnce) {
  TrainingSet set = made_up("image", 1, {1});
  set.videos[0].still = true;
  const PairSampler sampler({set}, {1}, 2);
  RandomStream random(5, 0, 0, RandomPurpose::pair);
  const PairDraw draw = sampler.draw(random);
  EXPECT_EQ(draw.templates, (std::vector<size_t>{0, 0}));
  EXPECT_EQ(draw.search, 0U);
}

TEST(PairSampler, AVideoWithoutAPairIsNamed) {
  std::vector<uint8_t> usable(30, 0);
  usable[7] = 1;
  const PairSampler sampler({made_up("lonely", 1, usable)}, {1}, 1);
  RandomStream random(4, 0, 0, RandomPurpose::pair);
  try {
    sampler.draw(random);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("lonely0"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace comba::tracking
