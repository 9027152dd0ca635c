// What reaches the network in training: pixels normalised, then erased, then mixed.
#include "classify/training_batches.h"

#include "classify/erasing.h"
#include "classify/evaluate.h"
#include "tests/base/temporary_folder.h"
#include "tests/classify/tiny.h"
#include "tests/datasets/pictures.h"

#include <ATen/Context.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/randn.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

namespace comba::classify {
namespace {

constexpr int kSide = 8;  // of the tiny configuration

TrainingBatch batch_of(const RunConfig& config, int64_t epoch, int64_t step) {
  TrainingBatches batches(config, at::kCPU);
  batches.start(epoch, step);
  return batches.next();
}

TEST(Erase, TouchesTheBoxesOfEveryImageAlone) {
  const datasets::EraseOptions options{.probability = 0.7, .mode = "pixel", .count = 2};
  const at::Tensor before = at::randn({20, 3, 16, 16});
  at::Tensor after = before.clone();
  std::vector<datasets::SampleKey> keys;
  for (int64_t i = 0; i < 20; ++i) {
    keys.push_back({1, 2, 100 - i, i % 3});
  }
  erase_(after, options, keys);
  at::Tensor want = before.clone();
  int boxes = 0;
  for (int64_t i = 0; i < 20; ++i) {
    for (const auto& box : draw_erasing(options, 16, keys[static_cast<size_t>(i)])) {
      std::vector<float> noise(static_cast<size_t>(3 * box.height * box.width));
      fill_erased("pixel", box, 0, 16, 3, keys[static_cast<size_t>(i)], noise.data());
      size_t at = 0;
      for (int c = 0; c < 3; ++c) {
        for (int y = box.y; y < box.y + box.height; ++y) {
          for (int x = box.x; x < box.x + box.width; ++x) {
            want[i][c][y][x] = noise[at++];
          }
        }
      }
      ++boxes;
    }
  }
  EXPECT_GT(boxes, 5);
  EXPECT_TRUE(after.equal(want));
}

TEST(TrainingBatches, AreErasedBeforeTheyAreMixed) {
  const RunConfig config = tiny_config({"data.erase=1", "data.erase_mode=const", "data.mixup=0.8"});
  const at::Tensor plain = batch_of(tiny_config(), 2, 3).images;
  const TrainingBatch batch = batch_of(config, 2, 3);
  ASSERT_EQ(batch.mixes.size(), 8U);
  const double share = batch.mixes[0].share;
  ASSERT_GT(std::min(share, 1 - share), 0.01);
  const auto erased = [&](int64_t i, int y, int x) {
    // Images of the tiny data come in order.
    for (const auto& box : draw_erasing(config.erase, kSide, {0, 2, 3 * 8 + i, 0})) {
      if (y >= box.y && y < box.y + box.height && x >= box.x && x < box.x + box.width) {
        return 0.0;
      }
    }
    return plain[i][0][y][x].item<double>();
  };
  for (int64_t i = 0; i < 8; ++i) {
    for (int y = 0; y < kSide; ++y) {
      for (int x = 0; x < kSide; ++x) {
        EXPECT_NEAR(batch.images[i][0][y][x].item<double>(),
                    share * erased(i, y, x) + (1 - share) * erased(7 - i, y, x), 1e-5);
      }
    }
  }
}

TEST(TrainingBatches, DependOnSeedEpochAndStepAlone) {
  const std::vector<std::string> keys = {"data.erase=0.5", "data.mixup=0.8", "data.cutmix=1"};
  const RunConfig config = tiny_config(keys);
  TrainingBatches straight(config, at::kCPU);
  straight.start(1, 0);
  for (int64_t step = 0; step < 10; ++step) {
    EXPECT_TRUE(straight.next().images.equal(batch_of(config, 1, step).images)) << step;
  }
  EXPECT_FALSE(batch_of(config, 1, 4).images.equal(batch_of(config, 1, 5).images));
}

TEST(TrainingBatches, TwoHundredAreTheSameFor1And7And13Threads) {
  const testing_tools::TemporaryFolder folder;
  datasets::write_class_folders(folder.path(), 3, 7);
  std::vector<at::Tensor> expected;
  for (const int threads : {1, 7, 13}) {
    TrainingBatches batches(
        tiny_config({"data.train=\"" + folder.path().string() + "\"", "data.train_split=\"\"",
                     "data.augment=rand-m9-mstd0.5-inc1", "data.repeats=3", "data.erase=0.5",
                     "data.mixup=0.8", "data.cutmix=1", fmt::format("data.threads={}", threads)}),
        at::kCPU);
    std::vector<at::Tensor> found;
    for (int64_t epoch = 0; found.size() < 200; ++epoch) {
      batches.start(epoch, 0);
      for (int64_t step = 0; step < batches.stream().batches_per_epoch(); ++step) {
        found.push_back(batches.next().images);
      }
    }
    if (expected.empty()) {
      expected = found;
    }
    for (size_t i = 0; i < found.size(); ++i) {
      ASSERT_TRUE(found[i].equal(expected[i])) << threads << " threads, batch " << i;
    }
  }
}

TEST(TrainingBatches, AnEpochMayBeLeftAndAnotherBegunInItsMiddle) {
  const RunConfig config = tiny_config({"data.erase=0.5"});
  TrainingBatches batches(config, at::kCPU);
  batches.start(0, 0);
  batches.next();
  batches.next();
  batches.start(1, 3);
  EXPECT_TRUE(batches.next().images.equal(batch_of(config, 1, 3).images));
}

TEST(TrainingBatches, StayAsTheyAreWhileTheNextAreMade) {
  TrainingBatches batches(tiny_config(), at::kCPU);
  batches.start(0, 0);
  const TrainingBatch first = batches.next();
  const at::Tensor images = first.images.clone(), labels = first.labels.clone();
  for (int i = 1; i < 10; ++i) {
    EXPECT_FALSE(batches.next().images.equal(images));
  }
  EXPECT_TRUE(first.images.equal(images));
  EXPECT_TRUE(first.labels.equal(labels));
}

// The device is far behind the host: work that is still to read a batch would show if its memory were used anew too soon.
TEST(TrainingBatches, OnCudaAreThoseOfTheCpuThoughTheyAreSentAhead) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  const testing_tools::TemporaryFolder folder;
  datasets::write_class_folders(folder.path(), 3, 17);
  const RunConfig config = tiny_config(
      {"data.train=\"" + folder.path().string() + "\"", "data.train_split=\"\"", "data.erase=0.5"});
  const at::Device device(at::kCUDA, 0);
  TrainingBatches here(config, at::kCPU), there(config, device);
  const at::Tensor a = at::randn({4096, 4096}, device);
  for (int64_t epoch = 0; epoch < 6; ++epoch) {
    here.start(epoch, 0);
    there.start(epoch, 0);
    std::vector<TrainingBatch> expected, found;
    // Epochs are also left before their end, with a batch on its way.
    const int64_t steps = here.stream().batches_per_epoch() - epoch % 3;
    for (int64_t step = 0; step < steps; ++step) {
      expected.push_back(here.next());
      const TrainingBatch batch = there.next();
      at::Tensor busy = a;
      for (int i = 0; i < 5; ++i) {
        busy = busy.mm(a).clamp(-1, 1);
      }
      const at::Tensor zero = busy[0][0].mul(0);
      found.push_back({batch.images + zero, batch.labels + zero.to(at::kLong), {}});
    }
    for (size_t i = 0; i < found.size(); ++i) {
      EXPECT_TRUE(found[i].images.cpu().equal(expected[i].images)) << epoch << ", " << i;
      EXPECT_TRUE(found[i].labels.cpu().equal(expected[i].labels)) << epoch << ", " << i;
    }
  }
}

RunConfig photographs(const std::filesystem::path& folder) {
  return tiny_config({"data.train=\"" + folder.string() + "\"", "data.train_split=\"\"",
                      "data.augment=rand-m9-mstd0.5-inc1", "data.repeats=3", "data.erase=0.5",
                      "data.mixup=0.8", "data.cutmix=1"});
}

void expect_planned_batches_are_the_same(at::Device device) {
  const testing_tools::TemporaryFolder folder;
  datasets::write_class_folders(folder.path(), 3, 7);
  const RunConfig config = photographs(folder.path());
  TrainingBatches finished(config, at::kCPU);
  TrainingBatches planned(
      config, device, open_stream(config, Purpose::training, memory_for(device), /*plans=*/true));
  for (int64_t epoch = 0; epoch < 5; ++epoch) {
    finished.start(epoch, 0);
    planned.start(epoch, 0);
    for (int64_t step = 0; step < finished.stream().batches_per_epoch(); ++step) {
      EXPECT_TRUE(planned.next().images.cpu().equal(finished.next().images))
          << "epoch " << epoch << ", step " << step;
    }
  }
}

TEST(TrainingBatches, PlansAreCarriedOutToTheSameBits) {
  expect_planned_batches_are_the_same(at::kCPU);
}

TEST(TrainingBatches, OnCudaPlansAreCarriedOutToTheSameBits) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  expect_planned_batches_are_the_same(at::Device(at::kCUDA, 0));
}

TEST(TrainingBatches, AnotherEpochErasesElsewhere) {
  // The same images in both epochs: what differs is what is erased.
  const std::vector<std::string> keys = {"data.erase=1", "data.synthetic_fixed_batch=true"};
  const at::Tensor plain = batch_of(tiny_config({"data.synthetic_fixed_batch=true"}), 0, 0).images;
  const at::Tensor first = batch_of(tiny_config(keys), 0, 0).images,
                   second = batch_of(tiny_config(keys), 1, 0).images;
  EXPECT_FALSE(first.equal(plain));
  EXPECT_FALSE(first.equal(second));
}

TEST(Pictures, AreThePixelsThatWereLoaded) {
  const RunConfig config = tiny_config();
  auto stream = open_stream(config, Purpose::training);
  stream->start(0, 0);
  datasets::Batch loaded;
  ASSERT_TRUE(stream->next(loaded));
  const auto tiles = pictures_of(batch_of(config, 0, 0), stream->classes(), config.data, 5);
  ASSERT_EQ(tiles.size(), 5U);
  for (size_t i = 0; i < tiles.size(); ++i) {
    EXPECT_EQ(tiles[i].caption, stream->classes()[static_cast<size_t>(loaded.labels[i])]);
    const size_t bytes = 3 * kSide * kSide;
    EXPECT_TRUE(std::equal(tiles[i].image.pixels.begin(), tiles[i].image.pixels.end(),
                           loaded.pixels.begin() + static_cast<ptrdiff_t>(i * bytes)));
  }
}

TEST(Pictures, OfMixedImagesNameBothAndTheirShares) {
  TrainingBatch batch{at::randn({3, 1, 4, 4}), at::arange(3), std::vector<Mix>(3)};
  batch.mixes[0].share = 0.7;
  DataOptions grey;
  grey.mean = {0.5};
  grey.std = {0.2};
  const auto tiles = pictures_of(batch, {"cat", "dog", "cow"}, grey, 9);
  ASSERT_EQ(tiles.size(), 3U);
  EXPECT_EQ(tiles[0].caption, "0.70 cat\n0.30 cow");
  EXPECT_EQ(tiles[1].caption, "dog");
}

}  // namespace
}  // namespace comba::classify
