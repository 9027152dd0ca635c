// Crops, jitter and augmentation of a training sample, and the batches they make.
#include "datasets/decode.h"
#include "tests/tracking/folder.h"
#include "tracking/pair_loader.h"

#include <cmath>

namespace comba::tracking {
namespace {

// A black image with a white rectangle on whole pixels.
datasets::Image picture(const Box& box, int width = 200, int height = 160) {
  datasets::Image image{height, width, 3,
                        std::vector<uint8_t>(static_cast<size_t>(width) * height * 3)};
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const bool inside = x >= box.x && x < box.x + box.w && y >= box.y && y < box.y + box.h;
      std::fill_n(image.row(y) + x * 3, 3, inside ? 255 : 0);
    }
  }
  return image;
}

// The bounding box of what is brighter than half, in shares of the image.
Box seen(const datasets::Image& image) {
  int left = image.width, top = image.height, right = -1, bottom = -1;
  for (int y = 0; y < image.height; ++y) {
    for (int x = 0; x < image.width; ++x) {
      if (image.row(y)[x * 3] > 100) {
        left = std::min(left, x);
        right = std::max(right, x + 1);
        top = std::min(top, y);
        bottom = std::max(bottom, y + 1);
      }
    }
  }
  const double w = image.width, h = image.height;
  return {left / w, top / h, (right - left) / w, (bottom - top) / h};
}

struct Sample {
  TrainingVideo video;
  PairDraw draw;
  PairFrames frames;
};
Sample sample(const Box& first, const Box& second) {
  Sample s{{"v", {}, {first, second}, {1, 1}}, {}, {{picture(first)}, picture(second)}};
  return s;
}

// Where the network is told that the target is, there it is, whatever the jitter and the mirror.
TEST(TrainingPair, TheTargetIsWhereItIsSaidToBe) {
  const CropOptions options;
  Sample s = sample({80, 60, 30, 24}, {90, 66, 28, 26});
  s.draw = {&s.video, {0}, 1};
  int compared = 0;
  for (uint64_t n = 0; n < 200; ++n) {
    RandomStream random(7, 0, n, RandomPurpose::pair);
    const auto pair = make_pair(s.draw, s.frames, options, random);
    ASSERT_TRUE(pair.has_value());
    ASSERT_EQ(pair->templates.size(), 1U);
    ASSERT_EQ(pair->templates[0].width, 128);
    ASSERT_EQ(pair->search.width, 256);
    const Box& t = pair->target;
    if (t.x < 0 || t.y < 0 || t.x + t.w > 1 || t.y + t.h > 1) {
      continue;  // cut
    }
    ++compared;
    const Box found = seen(pair->search);
    EXPECT_NEAR(found.x, t.x, 0.012);
    EXPECT_NEAR(found.y, t.y, 0.012);
    EXPECT_NEAR(found.w, t.w, 0.016);
    EXPECT_NEAR(found.h, t.h, 0.016);
  }
  EXPECT_GT(compared, 60);
}

// What is around the target fades in the template alone: the search crop has to be as a tracker sees it.
TEST(TrainingPair, OnlyTheTemplateLosesItsContext) {
  CropOptions options;
  options.template_context = 0;
  options.brightness = options.grey = 0;
  Sample s = sample({80, 60, 30, 24}, {90, 66, 28, 26});
  s.draw = {&s.video, {0}, 1};
  RandomStream random(7, 0, 1, RandomPurpose::pair);
  const auto pair = make_pair(s.draw, s.frames, options, random);
  ASSERT_TRUE(pair.has_value());
  const datasets::Image& t = pair->templates[0];
  const auto white = std::count(t.pixels.begin(), t.pixels.end(), 255),
             grey = std::count(t.pixels.begin(), t.pixels.end(), 128);
  EXPECT_NEAR(static_cast<double>(white) / t.pixels.size(), 0.25,
              0.03);  // the crop is twice as large
  EXPECT_NEAR(static_cast<double>(grey) / t.pixels.size(), 0.75, 0.03);
  EXPECT_EQ(std::count(pair->search.pixels.begin(), pair->search.pixels.end(), 128), 0);
}

// lib/train/data/processing.py: centre within half the jitter times the jittered size, size a log-normal.
TEST(TrainingPair, JitterIsThatOfTheRecipe) {
  CropOptions options;
  options.flip = 0;
  Sample s = sample({80, 60, 30, 24}, {80, 60, 30, 30});
  s.draw = {&s.video, {0}, 1};
  double sum = 0, squares = 0, most = 0;
  constexpr int kCount = 4000;
  for (uint64_t n = 0; n < kCount; ++n) {
    RandomStream random(8, 0, n, RandomPurpose::pair);
    const auto pair = make_pair(s.draw, s.frames, options, random);
    ASSERT_TRUE(pair.has_value());
    // The crop's side in target sizes is 4 exp(mean of two normals of deviation 0.25).
    const double logarithm = std::log(1 / pair->target.w / 4);
    sum += logarithm;
    squares += logarithm * logarithm;
    most = std::max(most, std::abs(pair->target.x + pair->target.w / 2 - 0.5));
  }
  EXPECT_NEAR(sum / kCount, 0, 0.02);
  EXPECT_NEAR(std::sqrt(squares / kCount), 0.25 / std::sqrt(2), 0.015);
  EXPECT_LE(most, 0.5 * 3.0 / 4 + 0.02);
  EXPECT_GT(most, 0.3);
}

TEST(TrainingPair, CropsThatShowNothingAreRefused) {
  Sample s = sample({80, 60, 30, 24}, {-5000, 60, 30, 24});
  s.draw = {&s.video, {0}, 1};
  RandomStream random(9, 0, 0, RandomPurpose::pair);
  EXPECT_FALSE(make_pair(s.draw, s.frames, CropOptions(), random).has_value());
}

class PairLoaderTest : public FolderTest {
 protected:
  void SetUp() override {
    FolderTest::SetUp();
    TrainingVideo video{"v", frames_of({root, {}, 24}), {}, {}};
    for (int i = 0; i < 24; ++i) {
      const Box box{40.0 + 3 * i, 50, 30, 24};
      write(fmt::format("{:08}.jpg", i + 1), datasets::encode_jpeg(picture(box), 95));
      video.truth.push_back(box);
      video.usable.push_back(1);
    }
    sampler = std::make_shared<PairSampler>(std::vector<TrainingSet>{{"s", {video}, 0}},
                                            std::vector<double>{1}, 1);
  }
  std::vector<PairBatch> batches(int64_t threads, int64_t epoch, int64_t first) const {
    PairLoader loader(sampler, options(threads));
    loader.start(epoch, first);
    std::vector<PairBatch> all;
    for (PairBatch batch; loader.next(batch);) {
      all.push_back(batch);
    }
    return all;
  }
  PairLoaderOptions options(int64_t threads) const {
    PairLoaderOptions o;
    o.batch_size = 4;
    o.samples = 14;
    o.threads = threads;
    return o;
  }

  std::shared_ptr<PairSampler> sampler;
};

void expect_same(const PairBatch& a, const PairBatch& b) {
  EXPECT_EQ(a.templates, b.templates);
  EXPECT_EQ(a.search, b.search);
  EXPECT_EQ(a.targets, b.targets);
}

TEST_F(PairLoaderTest, BatchesDependOnNeitherThreadsNorTheStart) {
  const auto one = batches(1, 2, 0), many = batches(5, 2, 0), later = batches(3, 2, 2);
  ASSERT_EQ(one.size(), 3U) << "14 samples, batches of 4, the last dropped";
  for (size_t i = 0; i < one.size(); ++i) {
    expect_same(one[i], many[i]);
  }
  ASSERT_EQ(later.size(), 1U);
  expect_same(one[2], later[0]);
  EXPECT_NE(one[0].targets, batches(1, 3, 0)[0].targets) << "another epoch, other samples";
}

TEST_F(PairLoaderTest, AnEvaluationKeepsTheLastShortBatch) {
  PairLoaderOptions o = options(2);
  o.last_short = true;
  PairLoader loader(sampler, o);
  EXPECT_EQ(loader.batches_per_epoch(), 4);
  loader.start(0, 3);
  PairBatch batch;
  ASSERT_TRUE(loader.next(batch));
  EXPECT_EQ(batch.size, 2);
  EXPECT_EQ(batch.targets.size(), 8U);
  EXPECT_FALSE(loader.next(batch));
}

TEST_F(PairLoaderTest, RanksShareEveryBatchAndEvaluateEveryPairOnce) {
  for (const bool evaluation : {false, true}) {
    std::vector<float> whole, shared[3];
    const auto read = [&](PairLoaderOptions o, std::vector<float>& targets) {
      o.last_short = evaluation;
      PairLoader loader(sampler, o);
      loader.start(2, 0);
      for (PairBatch batch; loader.next(batch);) {
        targets.insert(targets.end(), batch.targets.begin(), batch.targets.end());
      }
    };
    PairLoaderOptions o = options(2);
    o.batch_size = 6;
    read(o, whole);
    o.ranks = 3;
    for (o.rank = 0; o.rank < 3; ++o.rank) {
      read(o, shared[o.rank]);
    }
    std::vector<float> together;
    // Two pairs, four numbers each, of every batch; or all pairs of a rank, then those of the next.
    const size_t turn = evaluation ? whole.size() : 8;
    for (size_t first = 0; first < whole.size() && together.size() < whole.size(); first += turn) {
      for (const std::vector<float>& part : shared) {
        const auto from = part.begin() + static_cast<std::ptrdiff_t>(std::min(first, part.size()));
        const auto count =
            std::min<std::ptrdiff_t>(part.end() - from, static_cast<std::ptrdiff_t>(turn));
        together.insert(together.end(), from, from + count);
      }
    }
    EXPECT_EQ(together, whole);
  }
}

TEST_F(PairLoaderTest, AnUnreadableFrameStopsOrIsPassedOver) {
  write("00000011.jpg", "not an image");
  PairBatch batch;
  {
    PairLoaderOptions o = options(2);
    o.samples = 400;
    PairLoader loader(sampler, o);
    loader.start(0, 0);
    try {
      while (loader.next(batch)) {
      }
      FAIL() << "no error";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("00000011.jpg"), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find("on_bad"), std::string::npos) << error.what();
    }
  }
  PairLoaderOptions o = options(2);
  o.samples = 400;
  o.on_bad = "skip";
  PairLoader loader(sampler, o);
  loader.start(0, 0);
  int count = 0;
  while (loader.next(batch)) {
    ++count;
  }
  EXPECT_EQ(count, 100);
}

}  // namespace
}  // namespace comba::tracking
