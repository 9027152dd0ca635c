// What reaches the network in training: pixels normalised, then erased, then mixed.
#include "classify/training_batches.h"

#include "classify/erasing.h"
#include "classify/evaluate.h"
#include "datasets/jpeg.h"
#include "datasets/source.h"
#include "tests/base/temporary_folder.h"
#include "tests/classify/tiny.h"
#include "tests/datasets/pictures.h"
#include "vision/base/error.h"
#include "vision/base/files.h"

#include <functional>

#include <ATen/Context.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
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

RunConfig photographs(const std::filesystem::path& folder, int side = kSide) {
  return tiny_config({fmt::format("model.image_size={}", side),
                      "data.train=\"" + folder.string() + "\"", "data.train_split=\"\"",
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

// Photographs that no crop is decoded smaller from, so that both ways give the same bits.
void write_jpegs(const std::filesystem::path& root) {
  for (int label = 0; label < 3; ++label) {
    const auto folder = root / fmt::format("class{}", label);
    std::filesystem::create_directories(folder);
    for (int i = 0; i < 7; ++i) {
      const datasets::Image image = datasets::picture(15, 13, i == 5 ? 1 : 3, label * 7 + i);
      const auto kind = i == 6 ? datasets::JpegKind::progressive : datasets::JpegKind::baseline;
      write_file_atomic(folder / fmt::format("{:03}.jpg", i),
                        datasets::encode_jpeg(image, 90, kind));
    }
  }
}

// In the GPU's place: every third file is left.
struct OtherDecoder {
  int64_t files = 0, left = 0;

  kernels::DecodedJpegs operator()(const std::vector<std::span<const uint8_t>>& given) {
    constexpr int64_t kAlignment = 64;
    kernels::DecodedJpegs out;
    std::vector<uint8_t> pixels;
    for (const auto& file : given) {
      kernels::DecodedJpeg& image = out.images.emplace_back();
      if (files++ % 3 == 2) {
        ++left;
        continue;
      }
      const datasets::Image decoded = datasets::decode_image(file, 3, "left to another");
      image = {static_cast<int64_t>(pixels.size()), decoded.height, decoded.width, true};
      pixels.insert(pixels.end(), decoded.pixels.begin(), decoded.pixels.end());
      pixels.resize((pixels.size() + kAlignment - 1) / kAlignment * kAlignment);
    }
    out.pixels = at::tensor(pixels, at::kByte);
    return out;
  }
};

TEST(TrainingBatches, ImagesLeftToAnotherDecoderComeOutTheSame) {
  const testing_tools::TemporaryFolder folder;
  write_jpegs(folder.path());
  RunConfig config =
      photographs(folder.path(), 32);  // larger than a file, which lies in the place of its pixels
  TrainingBatches plain(config, at::kCPU);
  config.data.nvjpeg_share = 0.6;
  OtherDecoder other;
  TrainingBatches shared(config, at::kCPU,
                         open_stream(config, Purpose::training, nullptr, /*plans=*/true),
                         std::ref(other));
  int64_t images = 0;
  for (int64_t epoch = 0; epoch < 30; ++epoch) {
    plain.start(epoch, 0);
    shared.start(epoch, 0);
    for (int64_t step = 0; step < plain.stream().batches_per_epoch(); ++step) {
      const at::Tensor expected = plain.next().images;
      images += expected.size(0);
      EXPECT_TRUE(shared.next().images.equal(expected)) << "epoch " << epoch << ", step " << step;
    }
  }
  EXPECT_GT(other.files, images / 4);
  EXPECT_LT(other.files, images * 6 / 7) << "progressive ones are not left to it";
  EXPECT_GT(other.left, 0);
}

TEST(TrainingBatches, AFileThatNoDecoderReadsIsNamedOrGrey) {
  const testing_tools::TemporaryFolder folder;
  const auto classes = folder.path() / "class0";
  std::filesystem::create_directories(classes);
  std::string file = datasets::encode_jpeg(datasets::picture(40, 60, 3, 1), 90);
  // Past the headers nothing but an end: the loader finds nothing wrong with it.
  const size_t scan = file.find("\xff\xda");
  ASSERT_NE(scan, std::string::npos);
  file = file.substr(0, scan) + "\xff\xd9";
  for (int i = 0; i < 8; ++i) {
    write_file_atomic(classes / fmt::format("{}.jpg", i), file);
  }
  RunConfig config = photographs(folder.path(), 32);
  config.data.nvjpeg_share = 1.0;
  const JpegDecoder none = [](const auto& files) {
    return kernels::DecodedJpegs{at::empty({0}, at::kByte),
                                 std::vector<kernels::DecodedJpeg>(files.size())};
  };
  TrainingBatches batches(config, at::kCPU,
                          open_stream(config, Purpose::training, nullptr, /*plans=*/true), none);
  batches.start(0, 0);
  try {
    batches.next();
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(".jpg"), std::string::npos) << error.what();
  }
  config.data.on_bad = "grey";
  config.transform.augment = "";
  config.erase.probability = 0;
  TrainingBatches grey(config, at::kCPU,
                       open_stream(config, Purpose::training, nullptr, /*plans=*/true), none);
  grey.start(0, 0);
  const at::Tensor images = grey.next().images;
  EXPECT_TRUE(images.equal(images.slice(2, 0, 1).slice(3, 0, 1).expand_as(images)));
}

TEST(TrainingBatches, RanksMixTheirSharesAsOneProcessMixesTheBatch) {
  RunConfig config = tiny_config({"train.batch_size=128", "data.synthetic_size=384",
                                  "data.mixup=0.8", "data.cutmix=1.0", "data.mix_mode=image"});
  const TrainingBatch whole = batch_of(config, 1, 2);
  std::vector<at::Tensor> images, targets;
  config.ranks = 2;
  for (config.rank = 0; config.rank < 2; ++config.rank) {
    const TrainingBatch share = batch_of(config, 1, 2);
    images.push_back(share.images);
    targets.push_back(mix_labels(share.labels, share.mixes, 4, 0.1));
  }
  EXPECT_TRUE(at::cat(images).equal(whole.images));
  EXPECT_TRUE(at::cat(targets).equal(mix_labels(whole.labels, whole.mixes, 4, 0.1)));
}

TEST(TrainingBatches, AShareOfABatchIsNotMixed) {
  const testing_tools::TemporaryFolder folder;
  datasets::write_class_folders(folder.path(), 3, 7);
  const auto source = [&] {
    return std::shared_ptr<const datasets::ImageSource>(datasets::open_images(folder.path()));
  };
  RunConfig config = photographs(folder.path());
  datasets::LoaderOptions options;
  options.transform = config.transform;
  options.batch_size = config.train.batch_size;
  options.world = 2;
  options.training = true;
  TrainingBatches mixed(config, at::kCPU, stream_of(source(), options));
  mixed.start(0, 0);
  try {
    mixed.next();
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("of train.batch_size"), std::string::npos)
        << error.what();
  }
  config.mix = {};
  TrainingBatches plain(config, at::kCPU, stream_of(source(), options));
  plain.start(0, 0);
  EXPECT_EQ(plain.next().images.size(0), config.train.batch_size / 2);
}

TEST(TrainingBatches, SayWhereTheTimeGoes) {
  const testing_tools::TemporaryFolder folder;
  datasets::write_class_folders(folder.path(), 3, 7);
  TrainingBatches batches(photographs(folder.path()), at::kCPU);
  batches.start(0, 0);
  batches.next();
  std::vector<std::string> names;
  for (const auto& [name, seconds] : batches.stage_seconds()) {
    names.push_back(name);
    EXPECT_GE(seconds, 0.0) << name;
  }
  EXPECT_EQ(names, (std::vector<std::string>{"read", "decode", "full", "copy", "ready"}));
}

TEST(TrainingBatches, ADecoderThatCannotBeHadIsAWrongSetting) {
  try {
    nvjpeg_decoder(at::kCPU, "data.nvjpeg_share = 0.5");
    FAIL() << "no error";
  } catch (const UsageError& error) {
    EXPECT_EQ(std::string(error.what()),
              "data.nvjpeg_share = 0.5: cpu is no GPU; with 0 the processor decodes");
  }
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
