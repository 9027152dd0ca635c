#include "tracking/synthetic_benchmark.h"

#include "datasets/decode.h"
#include "datasets/synthetic_scene.h"
#include "tests/tracking/folder.h"
#include "tracking/benchmark.h"
#include "tracking/box_file.h"
#include "tracking/score.h"
#include "vision/base/error.h"
#include "vision/base/files.h"

#include <filesystem>

#include <gtest/gtest.h>

namespace comba::tracking {
namespace {

namespace fs = std::filesystem;

class SyntheticBenchmark : public FolderTest {
 protected:
  SyntheticOptions small(int threads = 0) const {
    SyntheticOptions o;
    o.seed = 3;
    o.sequences = 5;
    o.frames = 12;
    o.width = 160;
    o.height = 120;
    o.threads = threads;
    return o;
  }
  static void ignore(int) {}
};

TEST_F(SyntheticBenchmark, Got10kCanBeReadAndTheTruthScoresOne) {
  write_synthetic_got10k(root, small(), ignore);
  const auto sequences = read_got10k(root);
  ASSERT_EQ(sequences.size(), 5U);
  EXPECT_EQ(sequences[4].name, "GOT-10k_Train_000005");
  for (const Sequence& s : sequences) {
    ASSERT_EQ(s.truth.size(), 12U);
    EXPECT_EQ(s.width, 160);
    EXPECT_EQ(s.visible[0], 1) << "a video begins with its target";
    EXPECT_TRUE(fs::exists(root / s.name / "00000012.jpg"));
    EXPECT_EQ(score_overlaps(got10k_overlaps(s, s.truth)).sr75, 1.0);
    for (size_t n = 0; n < s.truth.size(); ++n) {
      const Box& b = s.truth[n];
      if (s.visible[n] != 0) {
        EXPECT_TRUE(b.x >= 1 && b.y >= 1 && b.x + b.w <= 161 && b.y + b.h <= 121 && b.has_area());
      }
    }
  }
  const std::string bytes = read_file(root / "GOT-10k_Train_000001/00000001.jpg");
  const auto image = datasets::decode_image(
      {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, 3, "frame");
  EXPECT_EQ(image.width, 160);
  EXPECT_EQ(image.height, 120);
}

TEST_F(SyntheticBenchmark, TheTestSplitTellsOnlyTheFirstBox) {
  SyntheticOptions o = small();
  o.split = "test";
  o.sequences = 1;
  write_synthetic_got10k(root, o, ignore);
  EXPECT_EQ(read_boxes(root / "GOT-10k_Test_000001/groundtruth.txt").size(), 1U);
  EXPECT_FALSE(fs::exists(root / "GOT-10k_Test_000001/cover.label"));
}

TEST_F(SyntheticBenchmark, LasotCanBeRead) {
  write_synthetic_lasot(root, small(), ignore);
  const auto sequences = read_lasot(root);
  ASSERT_EQ(sequences.size(), 5U);
  for (const Sequence& s : sequences) {
    EXPECT_EQ(s.truth.size(), 12U);
    EXPECT_EQ(s.visible[0], 1);
    EXPECT_TRUE(fs::exists(root / s.object_class / s.name / "img/00000001.jpg"));
  }
}

TEST_F(SyntheticBenchmark, TheSameSeedGivesTheSameBytesOnAnyNumberOfThreads) {
  write_synthetic_got10k(root / "one", small(1), ignore);
  write_synthetic_got10k(root / "many", small(4), ignore);
  SyntheticOptions other = small();
  other.seed = 4;
  write_synthetic_got10k(root / "other", other, ignore);
  for (const auto& entry : fs::recursive_directory_iterator(root / "one")) {
    if (entry.is_regular_file()) {
      const fs::path file = fs::relative(entry.path(), root / "one");
      EXPECT_TRUE(read_file(entry.path()) == read_file(root / "many" / file)) << file;
    }
  }
  const fs::path frame = "GOT-10k_Train_000001/00000001.jpg";
  EXPECT_FALSE(read_file(root / "one" / frame) == read_file(root / "other" / frame));
}

// Every second frame of a video is the video of step 2.
TEST_F(SyntheticBenchmark, AStepLeavesFramesOut) {
  const datasets::SyntheticScene all(
      {.seed = 5, .index = 2, .width = 96, .height = 72, .length = 9}),
      half({.seed = 5, .index = 2, .width = 96, .height = 72, .length = 5, .step = 2});
  for (int n = 0; n < 5; ++n) {
    const auto a = all.frame(2 * n), b = half.frame(n);
    EXPECT_EQ(a.x, b.x);
    EXPECT_EQ(a.w, b.w);
    EXPECT_EQ(a.visible, b.visible);
  }
}

TEST_F(SyntheticBenchmark, PhotographsChangeWhatIsSeenAndHaveToBeInColour) {
  const auto photographs = std::make_shared<std::vector<datasets::Image>>();
  photographs->push_back({50, 70, 3, std::vector<uint8_t>(50 * 70 * 3, 200)});
  int differ = 0;
  for (uint64_t index = 0; index < 6; ++index) {
    const datasets::SyntheticScene cut({.seed = 1,
                                        .index = index,
                                        .width = 96,
                                        .height = 72,
                                        .length = 3,
                                        .photographs = photographs}),
        drawn({.seed = 1, .index = index, .width = 96, .height = 72, .length = 3});
    const auto a = cut.frame(1), b = drawn.frame(1);
    EXPECT_GT(a.inside, 0.5);
    differ += a.image.pixels != b.image.pixels;
  }
  EXPECT_EQ(differ, 6);
  photographs->push_back({5, 7, 1, std::vector<uint8_t>(35)});
  EXPECT_THROW(datasets::SyntheticScene({.width = 96, .height = 72, .photographs = photographs}),
               Error);
}

TEST_F(SyntheticBenchmark, RefusesAFolderThatHasSomethingAndUnknownSplits) {
  fs::create_directories(root / "full/something");
  EXPECT_THROW(write_synthetic_lasot(root / "full", small(), ignore), Error);
  SyntheticOptions o = small();
  o.split = "validation";
  EXPECT_THROW(write_synthetic_got10k(root / "new", o, ignore), UsageError);
  o = small();
  o.width = 10;
  EXPECT_THROW(write_synthetic_got10k(root / "new", o, ignore), Error);
  o = small();
  o.photographs = (root / "full/something").string();  // without a picture
  EXPECT_THROW(write_synthetic_got10k(root / "new", o, ignore), Error);
}

// What a benchmark is for: over many scenes there are occlusions, absences, cuts, and motion that a box cannot sit out.
TEST(SyntheticScenes, AreHardInTheWaysTheyClaim) {
  int occluded = 0, absent = 0, cut = 0, moved = 0;
  constexpr int kScenes = 60;
  for (uint64_t index = 0; index < kScenes; ++index) {
    const datasets::SyntheticScene scene({1, index, 96, 72, 80});
    const auto first = scene.frame(0);
    EXPECT_GT(first.visible, 0.8) << index;
    bool far = false, hidden = false, gone = false, partly = false;
    for (int n = 10; n < 80; n += 10) {
      const auto frame = scene.frame(n);
      EXPECT_LE(frame.visible, frame.inside + 1e-9);
      far = far || std::abs(frame.x - first.x) > first.w || std::abs(frame.y - first.y) > first.h;
      hidden = hidden || frame.visible < 0.7 * frame.inside;
      gone = gone || frame.visible < 0.02;
      partly = partly || (frame.inside > 0.02 && frame.inside < 0.98);
    }
    occluded += hidden;
    absent += gone;
    cut += partly;
    moved += far;
  }
  EXPECT_GE(occluded, 6);
  EXPECT_GE(absent, 3);
  EXPECT_GE(cut, 6);
  EXPECT_GE(moved, kScenes / 2);
}

}  // namespace
}  // namespace comba::tracking
