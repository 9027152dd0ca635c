// Batches in a fixed order, whatever the threads; bad samples by the policy.
#include "datasets/loader.h"

#include "datasets/decode.h"
#include "datasets/folder.h"
#include "datasets/transform.h"
#include "tests/base/temporary_folder.h"
#include "tests/datasets/pictures.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/log.h"
#include "vision/base/random.h"
#include "vision/base/stopwatch.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <numeric>
#include <thread>

namespace comba::datasets {
namespace {

using testing_tools::message_of;
using testing_tools::TemporaryFolder;

class LoaderTest : public testing::Test {
 protected:
  void SetUp() override {
    write_class_folders(folder_.path(), 3, 7);
    source_ = open_folder(folder_.path());
    before_ = log::set_sink([](log::Level, std::string_view) {});
  }
  void TearDown() override { log::set_sink(before_); }

  static LoaderOptions options(bool training, int64_t threads) {
    LoaderOptions o;
    o.transform.image_size = 8;
    o.batch_size = 4;
    o.training = training;
    o.seed = 5;
    o.threads = threads;
    return o;
  }
  std::vector<Batch> epoch(Loader& loader, int64_t number, int64_t first = 0) const {
    std::vector<Batch> batches;
    Batch batch;
    loader.start(number, first);
    while (loader.next(batch)) {
      batches.push_back(batch);
    }
    return batches;
  }
  static bool same(const Batch& a, const Batch& b) {
    return a.size == b.size && a.pixels == b.pixels && a.labels == b.labels &&
           a.indices == b.indices && a.views == b.views;
  }
  static std::vector<int64_t> indices(const std::vector<Batch>& batches) {
    std::vector<int64_t> all;
    for (const Batch& batch : batches) {
      all.insert(all.end(), batch.indices.begin(), batch.indices.end());
    }
    return all;
  }
  void damage(int64_t index) const { write_file_atomic(source_->name(index), "broken"); }

  TemporaryFolder folder_;
  std::shared_ptr<const ImageSource> source_;
  log::Sink before_;
};

TEST_F(LoaderTest, EvaluationGivesEverySampleOnceInOrder) {
  Loader loader(source_, options(false, 3));
  EXPECT_EQ(loader.batches_per_epoch(), 6);
  const auto batches = epoch(loader, 0);
  ASSERT_EQ(batches.size(), 6U);
  EXPECT_EQ(batches.back().size, 1);
  const auto order = indices(batches);
  for (int64_t i = 0; i < 21; ++i) {
    EXPECT_EQ(order[static_cast<size_t>(i)], i);
  }
  EXPECT_EQ(batches[2].labels, (std::vector<int64_t>{1, 1, 1, 1}));
}

TEST_F(LoaderTest, ABatchHoldsTheTransformedPixels) {
  Loader loader(source_, options(false, 2));
  const Batch batch = epoch(loader, 0)[1];
  const Image expected =
      transform_for_evaluation(picture(12, 10, 3, 6), options(false, 2).transform);
  EXPECT_TRUE(std::equal(expected.pixels.begin(), expected.pixels.end(),
                         batch.pixels.begin() + 2 * 8 * 8 * 3));
}

TEST_F(LoaderTest, TrainingShufflesWithoutRepeatsAndDropsTheShortBatch) {
  Loader loader(source_, options(true, 2));
  EXPECT_EQ(loader.batches_per_epoch(), 5);
  auto first = indices(epoch(loader, 0)), second = indices(epoch(loader, 1));
  EXPECT_EQ(first.size(), 20U);
  EXPECT_NE(first, second);
  std::sort(first.begin(), first.end());
  EXPECT_EQ(std::adjacent_find(first.begin(), first.end()), first.end());
}

TEST_F(LoaderTest, RepeatsOfAnImageFollowEachOtherAndDiffer) {
  LoaderOptions o = options(true, 2);
  const auto once = indices(epoch(*std::make_unique<Loader>(source_, o), 3));
  o.repeats = 3;
  Loader loader(source_, o);
  EXPECT_EQ(loader.batches_per_epoch(), 5);
  const auto batches = epoch(loader, 3);
  const auto order = indices(batches);
  ASSERT_EQ(order.size(), once.size());
  for (size_t i = 0; i < order.size(); ++i) {
    EXPECT_EQ(order[i], once[i / 3]);
    EXPECT_EQ(batches[i / 4].views[i % 4], static_cast<int64_t>(i % 3));
  }
  const auto image = [&](size_t i) {
    const auto first = batches[i / 4].pixels.begin() + static_cast<ptrdiff_t>(i % 4 * 8 * 8 * 3);
    return std::vector<uint8_t>(first, first + 8 * 8 * 3);
  };
  EXPECT_NE(image(0), image(1));
  EXPECT_NE(image(1), image(2));
}

TEST_F(LoaderTest, AnyNumberOfThreadsGivesTheSameBytes) {
  Loader reference(source_, options(true, 1));
  for (const int64_t threads : {2, 5, 16}) {
    Loader loader(source_, options(true, threads));
    for (const int64_t number : {0, 1, 7}) {
      const auto expected = epoch(reference, number), found = epoch(loader, number);
      ASSERT_EQ(found.size(), expected.size());
      for (size_t i = 0; i < found.size(); ++i) {
        EXPECT_TRUE(same(found[i], expected[i]))
            << threads << " threads, epoch " << number << ", batch " << i;
      }
    }
  }
}

TEST_F(LoaderTest, AnEpochStartedInTheMiddleGoesOnAsItWould) {
  Loader loader(source_, options(true, 3));
  const auto whole = epoch(loader, 4);
  for (size_t first = 0; first <= whole.size(); ++first) {
    const auto rest = epoch(loader, 4, static_cast<int64_t>(first));
    ASSERT_EQ(rest.size(), whole.size() - first);
    for (size_t i = 0; i < rest.size(); ++i) {
      EXPECT_TRUE(same(rest[i], whole[first + i]));
    }
  }
}

TEST_F(LoaderTest, AnEpochMayBeLeftBeforeItsEnd) {
  Loader loader(source_, options(true, 4));
  const auto whole = epoch(loader, 2);
  for (int i = 0; i < 30; ++i) {
    Batch batch;
    loader.start(1);
    loader.next(batch);
    loader.start(2);
    ASSERT_TRUE(loader.next(batch));
    EXPECT_TRUE(same(batch, whole[0]));
  }
}

TEST_F(LoaderTest, ABadImageStopsWithItsNameAndTheWayOut) {
  damage(9);
  Loader loader(source_, options(false, 3));
  const std::string message = message_of<Error>([&] { epoch(loader, 0); });
  EXPECT_SAYS(message, source_->name(9));
  EXPECT_SAYS(message, "data.on_bad");
}

TEST_F(LoaderTest, SkippingInTrainingTakesTheNextSampleWhateverTheThreads) {
  const auto whole = indices(epoch(*std::make_unique<Loader>(source_, options(true, 1)), 0));
  damage(whole[3]);
  damage(whole[4]);
  for (const int64_t threads : {1, 4}) {
    LoaderOptions o = options(true, threads);
    o.on_bad = "skip";
    Loader loader(source_, o);
    const auto order = indices(epoch(loader, 0));
    EXPECT_EQ(order[2], whole[2]);
    EXPECT_EQ(order[3], whole[5]);
    EXPECT_EQ(order[4], whole[5]);
    EXPECT_EQ(order[5], whole[5]);
    EXPECT_EQ(loader.bad_samples(), 2);
  }
}

TEST_F(LoaderTest, SkippingInEvaluationCountsNoSampleTwice) {
  for (const int64_t bad : {0, 9, 10}) {
    damage(bad);
  }
  std::vector<int64_t> expected;
  for (int64_t i = 0; i < source_->size(); ++i) {
    if (i != 0 && i != 9 && i != 10) {
      expected.push_back(i);
    }
  }
  for (const int64_t threads : {1, 4}) {
    LoaderOptions o = options(false, threads);
    o.on_bad = "skip";
    Loader loader(source_, o);
    const auto batches = epoch(loader, 0);
    EXPECT_EQ(indices(batches), expected);
    for (const Batch& batch : batches) {
      EXPECT_EQ(batch.size, static_cast<int64_t>(batch.labels.size()));
      EXPECT_EQ(batch.pixels.size(), batch.size * 8 * 8 * 3);
    }
  }
}

TEST_F(LoaderTest, ABatchOfBadImagesAloneIsLeftOut) {
  LoaderOptions o = options(false, 2);
  for (int64_t i = 0; i < o.batch_size; ++i) {
    damage(i);
  }
  o.on_bad = "skip";
  Loader loader(source_, o);
  const auto batches = epoch(loader, 0);
  ASSERT_FALSE(batches.empty());
  EXPECT_EQ(batches[0].indices[0], o.batch_size);
}

TEST_F(LoaderTest, GreyStandsInForABadImage) {
  damage(1);
  LoaderOptions o = options(false, 2);
  o.on_bad = "grey";
  Loader loader(source_, o);
  const Batch batch = epoch(loader, 0)[0];
  EXPECT_EQ(batch.indices[1], 1);
  const auto second = batch.pixels.begin() + 8 * 8 * 3;
  EXPECT_TRUE(std::all_of(second, second + 8 * 8 * 3, [](uint8_t value) { return value == 128; }));
}

TEST_F(LoaderTest, TooManyBadImagesStopTheRun) {
  for (int64_t i = 0; i < 4; ++i) {
    damage(i);
  }
  LoaderOptions o = options(false, 2);
  o.on_bad = "skip";
  o.max_bad = 3;
  Loader loader(source_, o);
  EXPECT_SAYS(message_of<Error>([&] { epoch(loader, 0); }), "data.max_bad = 3");
}

TEST_F(LoaderTest, NothingReadableStopsTheRun) {
  for (int64_t i = 0; i < source_->size(); ++i) {
    damage(i);
  }
  LoaderOptions o = options(false, 2);
  o.on_bad = "skip";
  Loader loader(source_, o);
  EXPECT_SAYS(message_of<Error>([&] { epoch(loader, 0); }), "no image could be read");
}

// What a batch of plans becomes when they are carried out.
std::vector<uint8_t> carried_out(const Batch& batch) {
  std::vector<uint8_t> all;
  for (const PlacedImage& p : batch.placed) {
    const auto first = batch.pixels.begin() + p.offset;
    const Image part{p.height, p.width, 3, {first, first + bytes_of(p, 3)}};
    const Image out = carry_out({{part, p.y, p.x, p.box_height, p.box_width}, p.plan});
    all.insert(all.end(), out.pixels.begin(), out.pixels.end());
  }
  return all;
}

TEST_F(LoaderTest, PlansCarriedOutAreTheBatchesWithoutPlans) {
  LoaderOptions o = options(true, 1);
  o.transform.augment = "rand-m9-mstd0.5-inc1";
  Loader plain(source_, o);
  const auto expected = epoch(plain, 2);
  o.plans = true;
  for (const int64_t threads : {1, 7}) {
    o.threads = threads;
    Loader planned(source_, o);
    const auto found = epoch(planned, 2);
    ASSERT_EQ(found.size(), expected.size());
    for (size_t i = 0; i < found.size(); ++i) {
      EXPECT_EQ(found[i].indices, expected[i].indices);
      EXPECT_EQ(found[i].labels, expected[i].labels);
      const std::vector<uint8_t> pixels = carried_out(found[i]);
      EXPECT_TRUE(std::equal(pixels.begin(), pixels.end(), expected[i].pixels.begin(),
                             expected[i].pixels.end()))
          << threads << " threads, batch " << i;
    }
  }
}

TEST(PlannedBatches, ImagesThatFindNoRoomAreResizedToTheSamePixels) {
  constexpr int kSide = 6;
  Batch batch;
  // Room for one of the large images as it is, beside the finished sizes of all.
  make_room_for_plans(batch, 4, 4, 6 * kSide * kSide, 3 * kSide * kSide, nullptr);
  std::vector<uint8_t> expected;
  int resized = 0;
  const std::vector<std::pair<int, int>> sizes = {{11, 13}, {17, 16}, {4, 3}, {12, 12}};
  for (size_t i = 0; i < sizes.size(); ++i) {
    const auto [height, width] = sizes[i];
    const PreparedImage p{{noisy_picture(height, width, 3), 0.5, 1, height - 1.25, width - 1.5},
                          {kSide, kSide, i % 2 == 0, {{Augmentation::rotate, 20}}}};
    const Image out = carry_out(p);
    expected.insert(expected.end(), out.pixels.begin(), out.pixels.end());
    batch.placed[i] = add_pixels(batch, p);
    resized += batch.placed[i].height == kSide && height != kSide;
  }
  EXPECT_EQ(resized, 2);
  EXPECT_LE(batch.used, static_cast<int64_t>(batch.pixels.size()));
  EXPECT_EQ(carried_out(batch), expected);
}

TEST_F(LoaderTest, PlansOfBadSamplesAreGreySquares) {
  damage(7);
  damage(8);  // the last image of an order is left out
  LoaderOptions o = options(true, 2);
  o.on_bad = "grey";
  o.plans = true;
  o.transform.augment = "rand-m9-mstd0.5-inc1";
  Loader loader(source_, o);
  int grey = 0;
  for (const Batch& batch : epoch(loader, 0)) {
    const std::vector<uint8_t> pixels = carried_out(batch);
    for (int64_t i = 0; i < batch.size; ++i) {
      const auto first = pixels.begin() + i * 8 * 8 * 3;
      const int64_t index = batch.indices[static_cast<size_t>(i)];
      grey += (index == 7 || index == 8) &&
              std::all_of(first, first + 8 * 8 * 3, [](uint8_t level) { return level == 128; });
    }
  }
  EXPECT_GT(grey, 0);
  EXPECT_EQ(loader.bad_samples(), grey);
}

// Counts what is asked of it.
class CountedMemory final : public std::pmr::memory_resource {
 public:
  std::atomic<int64_t> allocations = 0, live = 0, most = 0;  // calls, bytes, bytes

 private:
  void* do_allocate(size_t bytes, size_t alignment) override {
    ++allocations;
    live += static_cast<int64_t>(bytes);
    most = std::max(most.load(), live.load());
    return std::pmr::new_delete_resource()->allocate(bytes, alignment);
  }
  void do_deallocate(void* pointer, size_t bytes, size_t alignment) override {
    live -= static_cast<int64_t>(bytes);
    std::pmr::new_delete_resource()->deallocate(pointer, bytes, alignment);
  }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
    return this == &other;
  }
};

TEST_F(LoaderTest, EpochAfterEpochGoesThroughTheSameFewBlocksOfTheGivenMemory) {
  for (const bool training : {true, false}) {  // evaluation's last batch is short
    const auto memory = std::make_shared<CountedMemory>();
    LoaderOptions o = options(training, 4);
    o.memory = memory;
    constexpr int64_t kBytes = 4 * 8 * 8 * 3;  // of a batch
    {
      Loader loader(source_, o);
      Batch batch;
      for (const int64_t first : {0, 4, 0, 0}) {
        for (loader.start(0, first); loader.next(batch);) {
          EXPECT_EQ(batch.pixels.get_allocator().memory(), memory);
        }
      }
      EXPECT_LE(memory->allocations, Loader::kBatchesAhead + 1);
      EXPECT_LE(memory->most, (Loader::kBatchesAhead + 1) * kBytes);
      EXPECT_GE(memory->live, kBytes);
    }
    EXPECT_EQ(memory->live, 0);
  }
}

// Has none to give.
class NoMemory final : public std::pmr::memory_resource {
  void* do_allocate(size_t bytes, size_t) override {
    throw Error(fmt::format("page-locking {} bytes: there are none", bytes));
  }
  void do_deallocate(void*, size_t, size_t) override {}
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
    return this == &other;
  }
};

TEST_F(LoaderTest, MemoryThatCannotBeHadStopsTheCallerWithItsReason) {
  LoaderOptions o = options(true, 4);
  o.memory = std::make_shared<NoMemory>();
  Loader loader(source_, o);
  for (int i = 0; i < 2; ++i) {  // a second attempt fails in the same way
    EXPECT_SAYS(message_of<Error>([&] { epoch(loader, i); }), "page-locking 768 bytes");
  }
}

TEST_F(LoaderTest, GivenMemoryChangesNoPixel) {
  LoaderOptions o = options(true, 3);
  Loader plain(source_, o);
  o.memory = std::make_shared<CountedMemory>();
  Loader given(source_, o);
  const auto expected = epoch(plain, 2), found = epoch(given, 2);
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_TRUE(same(found[i], expected[i])) << i;
  }
}

TEST_F(LoaderTest, ABatchStaysAsItIsWhileTheNextAreMade) {
  LoaderOptions o = options(true, 4);
  o.memory = std::make_shared<CountedMemory>();
  Loader loader(source_, o);
  Batch held, other;
  loader.start(0);
  ASSERT_TRUE(loader.next(held));
  const Batch copy = held;
  while (loader.next(other)) {
    EXPECT_FALSE(same(other, copy));
  }
  EXPECT_TRUE(same(held, copy));
}

TEST_F(LoaderTest, MayBeDestroyedInTheMiddleOfAnEpoch) {
  const auto memory = std::make_shared<CountedMemory>();
  for (int i = 0; i < 20; ++i) {
    LoaderOptions o = options(true, 4);
    o.memory = memory;
    Batch batch;
    Loader loader(source_, o);
    loader.start(i);
    if (i % 2 == 0) {
      ASSERT_TRUE(loader.next(batch));
    }
  }
  EXPECT_EQ(memory->live, 0);
}

TEST_F(LoaderTest, ASlowCallerFindsBatchesReadyAndThreadsWithoutWork) {
  const Stopwatch watch;
  Loader loader(source_, options(true, 2));
  EXPECT_FALSE(loader.ready());
  Batch batch;
  loader.start(0);
  for (const double idle : {0.05, 0.1}) {  // thread seconds, which only pass while all is made
    while (loader.times().full < idle) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_TRUE(loader.ready());
    ASSERT_TRUE(loader.next(batch));
  }
  const LoaderTimes times = loader.times();
  EXPECT_EQ(times.threads, 2);
  EXPECT_EQ(times.batches, 2);
  EXPECT_GT(times.ready, 0.05);  // two threads idle for 0.1 s in all, beside two batches at least
  EXPECT_LE(times.ready, static_cast<double>(Loader::kBatchesAhead) * watch.seconds());
  EXPECT_GT(times.read, 0.0);
  EXPECT_GT(times.decode, 0.0);
  EXPECT_LT(times.wait, 0.05);
  while (loader.next(batch)) {
  }
  EXPECT_FALSE(loader.ready());
}

// Takes its time over every image.
class SlowImages final : public ImageSource {
 public:
  explicit SlowImages(std::shared_ptr<const ImageSource> source) : source_(std::move(source)) {}
  int64_t size() const override { return source_->size(); }
  EncodedSample read(int64_t index) const override {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return source_->read(index);
  }
  int64_t label(int64_t index) const override { return source_->label(index); }
  std::string name(int64_t index) const override { return source_->name(index); }
  std::string original(int64_t index) const override { return source_->original(index); }
  const std::vector<std::string>& classes() const override { return source_->classes(); }
  std::string fingerprint() const override { return source_->fingerprint(); }

 private:
  std::shared_ptr<const ImageSource> source_;
};

TEST_F(LoaderTest, ASlowSourceShowsAsReadingAndWaiting) {
  epoch(*std::make_unique<Loader>(source_, options(true, 1)), 0);  // what is loaded once is there
  Loader loader(std::make_shared<SlowImages>(source_), options(true, 1));
  epoch(loader, 0);
  const LoaderTimes times = loader.times();
  const double least = 0.01 * 20;  // images
  EXPECT_GE(times.read, least);
  EXPECT_GE(times.wait, 0.5 * least);
  EXPECT_LT(times.decode, times.read);
  EXPECT_LT(times.full, 0.1 * least);
  EXPECT_LT(times.ready, 0.1 * least);
}

// The whole recipe on JPEGs of odd sizes.
class LoaderHashTest : public testing::Test {
 protected:
  static constexpr int64_t kBatches = 200, kEpoch = 2;  // 21 images in batches of 8

  void SetUp() override {
    for (int i = 0; i < 21; ++i) {
      const auto folder = folder_.path() / fmt::format("class{}", i % 3);
      std::filesystem::create_directories(folder);
      write_file_atomic(folder / fmt::format("{:03}.jpg", i),
                        encode_jpeg(picture(40 + i, 90 - 2 * i, 3, i), 90));
    }
    source_ = open_folder(folder_.path());
  }
  LoaderOptions options(int64_t threads, int64_t rank = 0, int64_t world = 1) const {
    LoaderOptions o;
    o.transform.image_size = 24;
    o.transform.augment = "rand-m9-mstd0.5-inc1";
    o.batch_size = 8;
    o.training = true;
    o.repeats = 3;
    o.seed = 5;
    o.threads = threads;
    o.rank = rank;
    o.world = world;
    return o;
  }
  // Batch `number` of all epochs laid end to end; they are asked for in order.
  static Batch batch_at(Loader& loader, int64_t number, bool first) {
    if (first || number % kEpoch == 0) {
      loader.start(number / kEpoch, number % kEpoch);
    }
    Batch batch;
    EXPECT_TRUE(loader.next(batch));
    return batch;
  }
  // FNV-1a over all that a batch holds.
  static void add(uint64_t& hash, const Batch& batch) {
    const auto mix = [&](uint64_t value) { hash = (hash ^ value) * 1099511628211ULL; };
    std::for_each(batch.pixels.begin(), batch.pixels.end(), mix);
    for (int64_t i = 0; i < batch.size; ++i) {
      mix(static_cast<uint64_t>(batch.labels[i]));
      mix(static_cast<uint64_t>(batch.indices[i]));
      mix(static_cast<uint64_t>(batch.views[i]));
    }
  }
  uint64_t hash_of(int64_t threads, int64_t first) const {
    uint64_t hash = 14695981039346656037ULL;
    Loader loader(source_, options(threads));
    EXPECT_EQ(loader.batches_per_epoch(), kEpoch);
    for (int64_t i = first; i < kBatches; ++i) {
      add(hash, batch_at(loader, i, i == first));
    }
    return hash;
  }
  // Of the ranks' parts put together.
  uint64_t hash_of_ranks(int64_t world) const {
    std::vector<std::unique_ptr<Loader>> ranks;
    for (int64_t rank = 0; rank < world; ++rank) {
      ranks.push_back(std::make_unique<Loader>(source_, options(2, rank, world)));
    }
    uint64_t hash = 14695981039346656037ULL;
    for (int64_t i = 0; i < kBatches; ++i) {
      Batch whole;
      for (const auto& loader : ranks) {
        const Batch part = batch_at(*loader, i, i == 0);
        whole.size += part.size;
        whole.pixels.insert(whole.pixels.end(), part.pixels.begin(), part.pixels.end());
        whole.labels.insert(whole.labels.end(), part.labels.begin(), part.labels.end());
        whole.indices.insert(whole.indices.end(), part.indices.begin(), part.indices.end());
        whole.views.insert(whole.views.end(), part.views.begin(), part.views.end());
      }
      EXPECT_EQ(whole.size, 8);
      add(hash, whole);
    }
    return hash;
  }

  TemporaryFolder folder_;
  std::shared_ptr<const ImageSource> source_;
};

TEST_F(LoaderHashTest, TwoHundredBatchesAreTheSameFor1And7And13Threads) {
  const uint64_t one = hash_of(1, 0);
  EXPECT_EQ(hash_of(7, 0), one);
  EXPECT_EQ(hash_of(13, 0), one);
}

TEST_F(LoaderHashTest, ALoaderStartedAtAnyStepGivesWhatAnUninterruptedOneGives) {
  RandomStream random(1, 0, 0, RandomPurpose::order);
  for (int i = 0; i < 3; ++i) {
    const int64_t step = random.below(kBatches);
    SCOPED_TRACE(step);
    uint64_t rest = 14695981039346656037ULL;
    Loader loader(source_, options(3));
    for (int64_t n = 0; n < kBatches; ++n) {
      const Batch batch = batch_at(loader, n, n == 0);
      if (n >= step) {
        add(rest, batch);
      }
    }
    EXPECT_EQ(hash_of(3, step), rest);
  }
}

TEST_F(LoaderHashTest, TheRanksPartsMakeTheSameBatchesForAnyNumberOfRanks) {
  const uint64_t one = hash_of(2, 0);
  for (const int64_t world : {1, 2, 3, 4, 8}) {
    EXPECT_EQ(hash_of_ranks(world), one) << world;
  }
}

TEST_F(LoaderTest, EveryRankNeedsAnImageOfABatch) {
  LoaderOptions o = options(true, 1);
  o.rank = 4;
  o.world = 5;
  EXPECT_SAYS(message_of<Error>([&] { Loader loader(source_, o); }), "rank 4 of 5");
  o.world = 4;
  EXPECT_SAYS(message_of<Error>([&] { Loader loader(source_, o); }), "rank 4 of 4");
}

TEST_F(LoaderTest, EvaluationIsSharedOutExactly) {
  for (const int64_t world : {1, 2, 4}) {
    std::vector<int64_t> all;
    for (int64_t rank = 0; rank < world; ++rank) {
      LoaderOptions o = options(false, 2);
      o.rank = rank;
      o.world = world;
      Loader loader(source_, o);
      const auto part = indices(epoch(loader, 0));
      all.insert(all.end(), part.begin(), part.end());
    }
    std::vector<int64_t> expected(21);
    std::iota(expected.begin(), expected.end(), 0);
    EXPECT_EQ(all, expected) << world;
  }
}

TEST_F(LoaderTest, ARankWithoutImagesEvaluatesNone) {
  LoaderOptions o = options(false, 2);
  o.batch_size = o.world = 30;  // of 21 images; rank 0's share is 0 .. 21 / 30
  Loader loader(source_, o);
  EXPECT_EQ(loader.batches_per_epoch(), 0);
  EXPECT_TRUE(epoch(loader, 0).empty());
}

TEST_F(LoaderTest, ABatchLargerThanTheDataIsRefused) {
  LoaderOptions o = options(true, 1);
  o.batch_size = 100;
  EXPECT_SAYS(message_of<Error>([&] { Loader loader(source_, o); }), "do not fill a batch of 100");
}

}  // namespace
}  // namespace comba::datasets
