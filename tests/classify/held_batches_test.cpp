// A batch's memory goes back to the stream only when its reader is done.
#include "classify/held_batches.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace comba::classify {
namespace {

// Like a loader: takes the memory of the given batch and fills it with the number of a later one, ahead of time.
class CountingStream final : public BatchStream {
 public:
  explicit CountingStream(int64_t batches) : batches_(batches) {}
  int64_t batches_per_epoch() const override { return batches_; }
  int64_t size() const override { return batches_; }
  void start(int64_t, int64_t first_batch) override { next_ = first_batch; }
  bool next(datasets::Batch& batch) override {
    if (!ready()) {
      return false;
    }
    std::swap(batch, ahead_);
    fill(batch, next_++);
    fill(ahead_, -1);  // whatever lies in what was given back is gone
    blocks.insert(batch.pixels.data());
    return true;
  }
  bool ready() const override { return next_ < batches_; }
  const std::vector<std::string>& classes() const override { return classes_; }
  std::string fingerprint() const override { return "counting"; }
  std::string name(int64_t index) const override { return std::to_string(index); }

  std::set<const uint8_t*> blocks;  // of memory that were handed out

 private:
  static void fill(datasets::Batch& batch, int64_t number) {
    datasets::make_room(batch, 1, 1, 4, nullptr);
    std::fill(batch.pixels.begin(), batch.pixels.end(), static_cast<uint8_t>(number));
  }
  int64_t batches_, next_ = 0;
  datasets::Batch ahead_;
  std::vector<std::string> classes_;
};

TEST(HeldBatches, AreWaitedForBeforeTheirMemoryGoesBack) {
  CountingStream stream(9);
  HeldBatches batches(2);
  std::vector<int> copied;
  for (int number = 0; number < 9; ++number) {
    const datasets::Batch* const batch = batches.next(stream);
    ASSERT_NE(batch, nullptr);
    // A copy that is made as late as it may be still sees the batch's own pixels.
    batches.hold([&copied, number, pixels = batch->pixels.data()] {
      EXPECT_EQ(pixels[0], number);
      copied.push_back(number);
    });
    EXPECT_EQ(static_cast<int>(copied.size()), std::max(0, number - 1));
  }
  EXPECT_EQ(batches.next(stream), nullptr);
  batches.release();
  EXPECT_EQ(copied, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8}));
  EXPECT_EQ(stream.blocks.size(), 3U);  // two held, one ahead
}

TEST(HeldBatches, WaitForTheirReadersBeforeTheyAreDestroyed) {
  CountingStream stream(2);
  int done = 0;
  {
    HeldBatches batches(2);
    for (int i = 0; i < 2; ++i) {
      const datasets::Batch* const batch = batches.next(stream);
      batches.hold([&done, i, pixels = batch->pixels.data()] {
        EXPECT_EQ(pixels[0], i);
        ++done;
      });
    }
    EXPECT_EQ(done, 0);
  }
  EXPECT_EQ(done, 2);
}

TEST(HeldBatches, WithoutAReaderNeedNoMoreThanOnePlace) {
  CountingStream stream(3);
  HeldBatches batches(1);
  for (int number = 0; number < 3; ++number) {
    EXPECT_EQ(batches.next(stream)->pixels[0], number);
  }
  EXPECT_EQ(batches.next(stream), nullptr);
}

}  // namespace
}  // namespace comba::classify
