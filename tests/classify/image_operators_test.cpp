// The operators that prepare training images (kernels/image/) against the CPU's path and against what Pillow and timm made:
// to the bit, on the CPU and, where there is one, on a GPU. Both run the same functions of a pixel.
#include "classify/erasing.h"
#include "classify/image_tables.h"
#include "datasets/transform.h"
#include "tests/datasets/augment_golden.h"
#include "tests/datasets/pictures.h"
#include "vision/nn/normaliser.h"

#include <algorithm>
#include <string>
#include <vector>

#include <ATen/Context.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

namespace comba::classify {
namespace {

using datasets::Augmentation;
using datasets::AugmentStep;
using datasets::Image;
using datasets::PreparedImage;

class ImageOperators : public testing::TestWithParam<at::DeviceType> {
 protected:
  void SetUp() override {
    if (device().is_cuda() && !at::hasCUDA()) {
      GTEST_SKIP() << "no CUDA device";
    }
  }
  at::Device device() const { return at::Device(GetParam()); }

  // Of one batch, whose images lie in the arena with gaps between them.
  std::vector<Image> augmented(const std::vector<PreparedImage>& batch) const {
    std::vector<uint8_t> arena(3, 77);
    std::vector<datasets::PlacedImage> placed;
    for (const PreparedImage& p : batch) {
      placed.push_back(place(p, static_cast<int64_t>(arena.size())));
      arena.resize(arena.size() + static_cast<size_t>(bytes_of(placed.back(), 3)) + 5, 77);
      copy_rows(p, placed.back(), arena.data() + placed.back().offset);
    }
    const at::Tensor pixels = at::tensor(arena, at::kByte).to(device());
    const at::Tensor out = kernels::image::augment_images(augment_inputs(pixels, placed)).cpu();
    EXPECT_EQ(out.scalar_type(), at::kByte);
    EXPECT_EQ(out.size(0), static_cast<int64_t>(batch.size()));
    std::vector<Image> images;
    for (int64_t i = 0; i < out.size(0); ++i) {
      const at::Tensor image = out[i].contiguous();
      const auto* const first = image.const_data_ptr<uint8_t>();
      images.push_back({static_cast<int>(out.size(1)),
                        static_cast<int>(out.size(2)),
                        3,
                        {first, first + image.numel()}});
    }
    return images;
  }

  void expect_bits_of_the_cpu_path(const std::vector<PreparedImage>& batch) const {
    const std::vector<Image> found = augmented(batch);
    for (size_t i = 0; i < batch.size(); ++i) {
      const Image want = carry_out(batch[i]);
      std::string steps;
      for (const AugmentStep& s : batch[i].plan.steps) {
        steps += fmt::format(" {} {}", name_of(s.kind), s.argument);
      }
      ASSERT_EQ(largest_difference(found[i], want), 0)
          << "image " << i << ", " << want.height << " x " << want.width << ":" << steps;
    }
  }
};

std::string name_of_device(const testing::TestParamInfo<at::DeviceType>& info) {
  return info.param == at::kCUDA ? "Cuda" : "Cpu";
}
INSTANTIATE_TEST_SUITE_P(On, ImageOperators, testing::Values(at::kCPU, at::kCUDA), name_of_device);

// The whole of an image at its own size, and one step.
PreparedImage unresized(const Image& image, const std::vector<AugmentStep>& steps) {
  return {{image, 0, 0, double(image.height), double(image.width)},
          {image.height, image.width, false, steps}};
}

TEST_P(ImageOperators, OperationsEqualPillowsAtEveryMagnitude) {
  const std::vector<std::pair<std::string, Image>> pictures = {
      {"op", datasets::golden_picture(21, 26, 20, 231)},
      {"flat", datasets::flat_picture()},
      {"tiny", datasets::golden_picture(2, 1)}};
  for (const auto& [records, picture] : pictures) {
    std::vector<PreparedImage> batch;
    auto golden = datasets::golden(records);
    std::vector<int> bounds;
    for (datasets::GoldenRecord& r : golden) {
      std::string name;
      double magnitude = 0;
      int negative = 0;
      r.arguments >> name >> magnitude >> negative;
      const Augmentation kind = datasets::kind_of(name);
      batch.push_back(
          unresized(picture, {{kind, augment_argument(kind, magnitude, negative != 0, true)}}));
      const bool geometric =
          name.starts_with("shear") || name.starts_with("translate") || name == "rotate";
      bounds.push_back(geometric ? 1 : 0);
    }
    const auto found = augmented(batch);
    for (size_t i = 0; i < golden.size(); ++i) {
      EXPECT_LE(largest_difference(found[i], golden[i].want), bounds[i]) << golden[i].words;
    }
  }
}

TEST_P(ImageOperators, GreyBlurAndJitterEqualPillows) {
  const std::vector<std::pair<std::string, Augmentation>> kinds = {
      {"grayscale", Augmentation::grayscale}, {"solarize", Augmentation::solarize},
      {"blur", Augmentation::gaussian_blur},  {"brightness", Augmentation::brightness},
      {"contrast", Augmentation::contrast},   {"color", Augmentation::colour}};
  for (const auto& [name, kind] : kinds) {
    for (datasets::GoldenRecord& r : datasets::golden(name)) {
      float argument = 128;  // the threshold; the others have their own
      if (kind != Augmentation::grayscale && kind != Augmentation::solarize) {
        r.arguments >> argument;
      }
      const auto found =
          augmented({unresized(datasets::golden_picture(31, 26), {{kind, argument}})});
      EXPECT_EQ(largest_difference(found[0], r.want), 0) << r.words;
    }
  }
}

TEST_P(ImageOperators, ResizingEqualsPillowToTheBit) {
  for (datasets::GoldenRecord& r : datasets::golden("bicubic")) {
    int height = 0, width = 0;
    r.arguments >> height >> width;
    PreparedImage p = unresized(datasets::golden_picture(height, width), {});
    p.plan.height = r.want.height;
    p.plan.width = r.want.width;
    EXPECT_EQ(largest_difference(augmented({p})[0], r.want), 0) << r.words;
  }
}

TEST_P(ImageOperators, ResizeBoxesWithFractionalEdgesUpAndDown) {
  const Image image = datasets::noisy_picture(67, 83, 3);
  const std::vector<datasets::DecodedPart> parts = {
      {image, 0, 0, 67, 83},         {image, 3.5, 7.25, 41.25, 50.75},
      {image, 60.125, 80.5, 1.5, 2}, {image, 11, 0, 1, 83},
      {image, 0, 82, 67, 1},         {image, 66.875, 0.375, 0.125, 0.5},
      {image, 20.25, 30.5, 29, 29}};
  for (const auto& [height, width] : {std::pair(29, 29), {1, 1}, {7, 131}, {140, 3}, {224, 224}}) {
    std::vector<PreparedImage> batch;
    for (const datasets::DecodedPart& part : parts) {
      for (const bool flip : {false, true}) {
        batch.push_back({part, {height, width, flip, {}}});
      }
    }
    expect_bits_of_the_cpu_path(batch);
  }
}

std::vector<std::vector<AugmentStep>> every_single_step() {
  std::vector<std::vector<AugmentStep>> all = {{}, {{Augmentation::grayscale}}};
  for (int k = 0; k < datasets::kRandAugmentations; ++k) {
    const auto kind = static_cast<Augmentation>(k);
    for (const double magnitude : {0.0, 3.0, 7.5, 9.0, 10.0}) {
      for (const bool negative : {false, true}) {
        for (const bool increasing : {false, true}) {
          all.push_back({{kind, augment_argument(kind, magnitude, negative, increasing)}});
        }
      }
    }
  }
  for (const double radius : {0.1, 0.8, 1.37, 2.0, 5.0, 40.0}) {
    all.push_back({{Augmentation::gaussian_blur, radius}});
  }
  return all;
}

TEST_P(ImageOperators, EveryOperationGivesTheBitsOfTheCpuPathAtAnySize) {
  for (const auto& [height, width] :
       {std::pair(33, 41), {1, 1}, {2, 1}, {1, 5}, {3, 3}, {64, 64}}) {
    std::vector<PreparedImage> batch;
    for (const auto& steps : every_single_step()) {
      batch.push_back(unresized(datasets::noisy_picture(height, width, 3), steps));
    }
    expect_bits_of_the_cpu_path(batch);
  }
}

// As a loader prepares them: JPEGs of many sizes and colours, some of them decoded at half their size.
std::vector<PreparedImage> prepared_batch(const std::string& policy, double jitter, int count) {
  datasets::TransformOptions options;
  options.image_size = 48;
  options.augment = policy;
  options.jitter = jitter;
  const datasets::TrainingTransform transform(options);
  std::vector<PreparedImage> batch;
  for (int i = 0; i < count; ++i) {
    const Image image = datasets::picture(30 + 37 * (i % 7), 41 + 53 * (i % 5), 3, i);
    const std::string jpeg = datasets::encode_jpeg(image, 90);
    batch.push_back(transform.prepare(datasets::as_bytes(jpeg), "j", {3, 1, i}));
  }
  return batch;
}

TEST_P(ImageOperators, WholeRandomPlansGiveTheBitsOfTheCpuPath) {
  for (const auto& [policy, jitter] : {std::pair("rand-m9-mstd0.5-inc1", 0.0),
                                       {"rand-m7-n6-p0.9-mstd101", 0.0},
                                       {"3a", 0.3},
                                       {"", 0.0}}) {
    SCOPED_TRACE(policy);
    expect_bits_of_the_cpu_path(prepared_batch(policy, jitter, 300));
    expect_bits_of_the_cpu_path(prepared_batch(policy, jitter, 1));
  }
}

TEST_P(ImageOperators, ABatchOfNoImagesIsEmpty) {
  const auto in =
      augment_inputs(at::zeros({0}, at::TensorOptions().dtype(at::kByte).device(device())), {});
  EXPECT_EQ(kernels::image::augment_images(in).size(0), 0);
}

TEST_P(ImageOperators, BadTablesAreRefusedByNameExpectedAndGot) {
  const auto message = [&](const auto& spoil) {
    auto in =
        augment_inputs(at::zeros({300}, at::TensorOptions().dtype(at::kByte).device(device())),
                       {{.offset = 0,
                         .height = 10,
                         .width = 10,
                         .box_height = 10,
                         .box_width = 10,
                         .plan = {8, 8, false, {{Augmentation::invert}}}}});
    spoil(in);
    try {
      kernels::image::augment_images(in);
    } catch (const c10::Error& error) {
      return std::string(error.what_without_backtrace());
    }
    return std::string("accepted");
  };
  using Inputs = kernels::image::AugmentInputs;
  const auto has = [](const std::string& text, const char* part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  EXPECT_EQ(message([](Inputs&) {}), "accepted");
  has(message([](Inputs& in) { in.pixels = in.pixels.narrow(0, 0, 299); }),
      "images[0]: expected an offset with 10 x 10 x 3 bytes behind it, got 0 in pixels of 299 "
      "bytes");
  has(message([](Inputs& in) { in.images[0][3] = 0.5; }),
      "images[0]: expected a box {y, x, height, width} within 10 x 10 px, got {0.5, 0, 10, 10}");
  has(message([](Inputs& in) { in.images[0][6] = std::nan(""); }), "images[0]: expected a box");
  has(message([](Inputs& in) { in.images[0][7] = 2; }),
      "images[0]: expected a flip of 0 or 1, got 2");
  has(message([](Inputs& in) { in.images = in.images.to(at::kFloat); }),
      "images: expected float64 [B, 8] on the CPU, got Float [1, 8]");
  has(message([](Inputs& in) { in.steps[0][0][0] = 14; }),
      "steps[0][0]: expected an operation of 0 .. 13, got 14");
  has(message([](Inputs& in) {
        in.steps[0][0][0] = 5;
        in.steps[0][0][1] = 9;
      }),
      "steps[0][0]: expected a whole number of 0 .. 8 for operation 5, got 9");
  has(message([](Inputs& in) { in.height = 0; }),
      "size: expected {height, width} of 1 .. 16384 px, got [0, 8]");
  has(message([](Inputs& in) { in.fill[1] = 256; }), "fill: expected three levels of 0 .. 255");
}

// Batches as TrainingBatches makes them on the CPU, operation by operation.
struct FinishCase {
  const char* name;
  datasets::EraseOptions erase;
  MixOptions mix;
  int64_t channels = 3;
};

const FinishCase kFinishCases[] = {
    {"plain", {}, {}},
    {"grey", {.probability = 0.6}, {.mixup = 0.8}, 1},
    {"noise", {.probability = 0.7, .mode = "pixel", .count = 3}, {}},
    {"colours", {.probability = 0.7, .mode = "colour", .count = 3}, {}},
    {"means", {.probability = 0.7, .mode = "const", .count = 2}, {}},
    {"mixup", {}, {.mixup = 0.8}},
    {"cutmix", {}, {.cutmix = 1.0}},
    {"deit", {.probability = 0.25}, {.mixup = 0.8, .cutmix = 1.0}},
    {"every image its own",
     {.probability = 0.5},
     {.mixup = 0.8, .cutmix = 1.0, .probability = 0.8, .mode = "image"}},
};

TEST_P(ImageOperators, NormalisesErasesAndMixesToTheBitsOfTheCpuPath) {
  const std::vector<double> means = {0.485, 0.456, 0.406}, deviations = {0.229, 0.224, 0.225};
  for (const FinishCase& c : kFinishCases) {
    SCOPED_TRACE(c.name);
    const auto n = static_cast<ptrdiff_t>(c.channels);
    const std::vector<double> mean(means.begin(), means.begin() + n),
        std(deviations.begin(), deviations.begin() + n);
    for (const int64_t count : {1, 70}) {
      for (int64_t step = 0; step < 4; ++step) {
        const at::Tensor pixels = at::randint(256, {count, 19, 19, c.channels}, at::kByte);
        std::vector<datasets::SampleKey> keys;
        for (int64_t i = 0; i < count; ++i) {
          keys.push_back({5, 2, (int64_t{1} << 40) + 31 * i, i % 3});
        }
        const auto mixes =
            c.mix.on(2) ? draw_mixes(c.mix, count, 19, 5, 2, step) : std::vector<Mix>();
        at::Tensor want = vision::Normaliser(mean, std, at::kCPU)(pixels);
        erase_(want, c.erase, keys);
        want = mixes.empty() ? want : mix_images(want, mixes);
        const vision::Normaliser normaliser(mean, std, device());
        kernels::image::NormaliseInputs in;
        in.pixels = pixels.to(device());
        in.scale = normaliser.scale();
        in.shift = normaliser.shift();
        add_erasing(in, c.erase, keys);
        add_mixing(in, mixes);
        const at::Tensor found = kernels::image::normalise_images(in).cpu();
        ASSERT_TRUE(found.equal(want)) << count << " images, step " << step;
        in.dtype = at::kBFloat16;
        ASSERT_TRUE(kernels::image::normalise_images(in).cpu().equal(want.to(at::kBFloat16)));
      }
    }
  }
}

TEST_P(ImageOperators, BadEndingsAreRefusedByNameExpectedAndGot) {
  const auto message = [&](const auto& spoil) {
    const auto bytes = at::TensorOptions().dtype(at::kByte).device(device());
    const auto floats = at::TensorOptions().dtype(at::kFloat).device(device());
    kernels::image::NormaliseInputs in;
    in.pixels = at::zeros({2, 8, 8, 3}, bytes);
    in.scale = in.shift = at::zeros({3}, floats);
    add_erasing(in, {.probability = 1}, {{1, 2, 3}, {1, 2, 4}});
    add_mixing(in, std::vector<Mix>(2));
    spoil(in);
    try {
      kernels::image::normalise_images(in);
    } catch (const c10::Error& error) {
      return std::string(error.what_without_backtrace());
    }
    return std::string("accepted");
  };
  using Inputs = kernels::image::NormaliseInputs;
  const auto has = [](const std::string& text, const char* part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  EXPECT_EQ(message([](Inputs&) {}), "accepted");
  has(message([](Inputs& in) { in.pixels = in.pixels.narrow(1, 0, 7); }),
      "pixels: expected uint8 [B, S, S, C], got Byte [2, 7, 8, 3]");
  has(message([](Inputs& in) { in.shift = in.shift.narrow(0, 0, 2); }),
      "shift: expected contiguous float32 [C] = [3]");
  has(message([](Inputs& in) { in.boxes[0][0][2] = 9; }),
      "boxes[0]: expected {y, x, height, width} within 8 x 8 px");
  has(message([](Inputs& in) { in.streams = at::Tensor(); }),
      "streams: expected Long [2, 6], as boxes are to be erased, got none");
  has(message([](Inputs& in) { in.mode = "grey"; }),
      "erase_mode: expected pixel, colour or const, got \"grey\"");
  has(message([](Inputs& in) { in.mixes[1][0] = 2; }),
      "mixes[1]: expected a partner of 0 .. 1, got 2");
  has(message([](Inputs& in) { in.mixes[0][1] = 1.5; }),
      "mixes[0]: expected a share of 0 .. 1, got 1.5");
  has(message([](Inputs& in) { in.dtype = at::kDouble; }),
      "dtype: expected float32, bfloat16 or float16, got Double");
}

}  // namespace
}  // namespace comba::classify
