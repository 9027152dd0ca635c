// comba bench augment: the operators that prepare training images, a batch at a time.
#include "classify/image_tables.h"
#include "datasets/transform.h"
#include "tools/bench_timer.h"
#include "tools/commands.h"
#include "vision/base/random.h"
#include "vision/nn/normaliser.h"

#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <ATen/Context.h>
#include <ATen/ops/from_blob.h>
#include <fmt/format.h>

namespace comba::tools {
namespace {

struct Arguments {
  int64_t batch = 1024;
  int repeats = 20;
  std::string device;
  datasets::TransformOptions transform;

  Arguments() { transform.augment = "rand-m9-mstd0.5-inc1"; }
};

// A decoded batch: noise of 341 x 256 px, which is what a stored ImageNet photograph has, and the plans.
struct Prepared {
  std::vector<uint8_t> arena;
  std::vector<datasets::PlacedImage> placed;
  std::vector<datasets::SampleKey> keys;

  explicit Prepared(const Arguments& a) {
    const datasets::TrainingTransform transform(a.transform);
    RandomStream random(7, 0, 0, RandomPurpose::synthesise);
    datasets::Image image{256, 341, 3, std::vector<uint8_t>(size_t{256} * 341 * 3)};
    for (uint8_t& level : image.pixels) {
      level = static_cast<uint8_t>(random.next() >> 24);
    }
    for (int64_t i = 0; i < a.batch; ++i) {
      keys.push_back({1, 0, i});
      const auto prepared = transform.prepare(image, keys.back());
      placed.push_back(place(prepared, static_cast<int64_t>(arena.size())));
      arena.resize(arena.size() + static_cast<size_t>(bytes_of(placed.back(), 3)));
      copy_rows(prepared, placed.back(), arena.data() + placed.back().offset);
    }
  }
};

void run(const Arguments& a) {
  const at::Device device(a.device.empty() ? (at::hasCUDA() ? "cuda" : "cpu") : a.device);
  Prepared prepared(a);
  const at::Tensor pixels =
      at::from_blob(prepared.arena.data(), {static_cast<int64_t>(prepared.arena.size())}, at::kByte)
          .to(device);
  const auto augment = classify::augment_inputs(pixels, prepared.placed);
  const vision::Normaliser normaliser({0.485, 0.456, 0.406}, {0.229, 0.224, 0.225}, device);
  kernels::image::NormaliseInputs finish;
  finish.pixels = kernels::image::augment_images(augment);
  finish.scale = normaliser.scale();
  finish.shift = normaliser.shift();
  classify::add_erasing(finish, {.probability = 0.25}, prepared.keys);
  classify::add_mixing(
      finish, classify::draw_mixes({.mixup = 0.8}, a.batch, a.transform.image_size, 1, 0, 0));
  using Tensors = std::vector<at::Tensor>;
  const DeviceTimer timer{device, a.repeats};
  const auto ms =
      timer.eager({{[&](size_t) { return Tensors{kernels::image::augment_images(augment)}; }},
                   {[&](size_t) { return Tensors{kernels::image::normalise_images(finish)}; }}});
  const auto each = [&](double time) { return 1000 * time / static_cast<double>(a.batch); };
  std::cout << fmt::format(
      "{} images to {} px on {}, augment = \"{}\", medians of {} runs\n{:<28}{:>10}{:>14}\n"
      "{:<28}{:>10.3f}{:>14.3f}\n{:<28}{:>10.3f}{:>14.3f}\n",
      a.batch, a.transform.image_size, device.str(), a.transform.augment, a.repeats, "", "ms",
      "us an image", "crop, resize, augment", ms[0], each(ms[0]), "normalise, erase, mix", ms[1],
      each(ms[1]));
}

}  // namespace

void add_bench_augment_command(CLI::App& bench) {
  CLI::App* command =
      bench.add_subcommand("augment", "The operators that prepare decoded training images");
  const auto a = std::make_shared<Arguments>();
  command->add_option("--batch", a->batch, "Images")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  command->add_option("--image-size", a->transform.image_size, "px")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  command->add_option("--augment", a->transform.augment, "As data.augment in a config")
      ->capture_default_str();
  command->add_option("--jitter", a->transform.jitter, "As data.jitter")->capture_default_str();
  command->add_option("--device", a->device, "cuda or cpu (default: cuda where there is one)")
      ->check(CLI::IsMember({"cuda", "cpu"}));
  command->add_option("--repeats", a->repeats, "Runs whose median is reported")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  command->footer("Example: comba bench augment --batch 1024");
  command->callback([a] { run(*a); });
}

}  // namespace comba::tools
