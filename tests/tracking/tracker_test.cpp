// A tracker frame by frame, its training as a task, and its results on a benchmark.
#include "tracking/tracker.h"

#include "datasets/decode.h"
#include "datasets/synthetic_scene.h"
#include "tests/tracking/folder.h"
#include "tests/tracking/tiny_tracker.h"
#include "tracking/synthetic_benchmark.h"
#include "tracking/task.h"
#include "vision/base/error.h"
#include "vision/engine/trainer.h"
#include "vision/io/safetensors.h"

#include <algorithm>

#include <ATen/Context.h>
#include <torch/nn/modules/conv.h>

namespace comba::tracking {
namespace {

double overlap(const Box& a, const Box& b) {  // IoU
  const double w = std::min(a.x + a.w, b.x + b.w) - std::max(a.x, b.x),
               h = std::min(a.y + a.h, b.y + b.h) - std::max(a.y, b.y);
  const double shared = std::max(w, 0.0) * std::max(h, 0.0);
  return shared / (a.w * a.h + b.w * b.h - shared);
}

bool same(const Box& a, const Box& b) { return a == b; }

TEST(TrackConfig, EveryShippedOneBuildsATracker) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(
           std::filesystem::path(COMBA_SOURCE_DIR) / "configs/tracking")) {
    SCOPED_TRACE(entry.path().string());
    TrackConfig config;
    read_track_config(entry.path(), {"model.depth=1"}, config);
    EXPECT_NO_THROW(Network{config.network});
    EXPECT_FALSE(config.data.train.empty());
    EXPECT_EQ(config.data.ratios.size(), config.data.train.size());
    ++count;
  }
  EXPECT_GE(count, 12);
}

TEST(TrackConfig, WhatContradictsItselfIsRefused) {
  for (const std::string set : {"model.in_channels=1", "data.mean=[0.5]", "data.ratios=[1,2,3]",
                                "model.templates=3", "train.schedule=linear"}) {
    TrackConfig config;
    EXPECT_THROW(read_track_config_text(kTiny, "tiny", ".", {set}, config), UsageError) << set;
  }
}

// The weights that are shipped follow what they were made to follow.
TEST(ShippedTracker, FollowsMadeUpVideos) {
  const auto bundle = load_tracker(
      std::filesystem::path(COMBA_SOURCE_DIR) / "tracking/weights/comba_t_synthetic.safetensors",
      "auto", at::kCPU);
  Tracker tracker(bundle, at::kCPU);
  double sum = 0, count = 0;
  for (uint64_t index = 0; index < 4; ++index) {
    const datasets::SyntheticScene scene(
        {.seed = 77, .index = index, .width = 320, .height = 240, .length = 10});
    const auto box = [](const datasets::SceneFrame& f) { return Box{f.x, f.y, f.w, f.h}; };
    const datasets::SceneFrame first = scene.frame(0);
    tracker.clear();
    tracker.add(first.image, box(first));
    for (int n = 3; n < 10; n += 3) {
      const datasets::SceneFrame frame = scene.frame(n);
      sum += overlap(tracker.update(frame.image)[0].box, box(frame));
      ++count;
    }
  }
  EXPECT_GT(sum / count, 0.5);
}

TEST(Tracker, ABoxDoesNotChangeWhileItsTargetIsLost) {
  TrackerOptions options;
  options.lost_below = 1;  // every frame
  Tracker tracker(tiny_bundle(), at::kCPU, options);
  const Box box{40, 30, 24, 20};
  EXPECT_EQ(tracker.add(noise(120, 90, 1), box), 1);
  const datasets::Image black{90, 120, 3, std::vector<uint8_t>(120 * 90 * 3)};
  for (int i = 0; i < 50; ++i) {
    const auto& objects = tracker.update(i % 2 == 0 ? black : noise(120, 90, 2));
    ASSERT_EQ(objects.size(), 1U);
    EXPECT_TRUE(objects[0].lost);
    EXPECT_TRUE(same(objects[0].box, box));
  }
}

TEST(Tracker, BoxesStayInTheImageAndScoresBetweenZeroAndOne) {
  TrackerOptions options;
  options.lost_below = 0;
  Tracker tracker(tiny_bundle(), at::kCPU, options);
  tracker.add(noise(120, 90, 1), {100, 70, 30, 30});
  for (int i = 0; i < 20; ++i) {
    const int width = i < 10 ? 120 : 75;  // the video changes its size
    const TrackedObject object = tracker.update(noise(width, 90, 10 + i))[0];
    EXPECT_FALSE(object.lost);
    EXPECT_GT(object.score, 0);
    EXPECT_LT(object.score, 1);
    EXPECT_GE(object.box.x, 0);
    EXPECT_GE(object.box.w, 10);
    EXPECT_LE(object.box.x + object.box.w, width + 1e-6);
  }
}

// Several objects are one batch: each goes its way as if it were alone.
TEST(Tracker, SeveralObjectsAreFollowedAsEachAlone) {
  const std::vector<Box> boxes = {{10, 10, 20, 20}, {50, 30, 30, 16}, {80, 60, 12, 24}};
  TrackerOptions options;
  options.lost_below = 0;
  Tracker together(tiny_bundle(), at::kCPU, options);
  std::vector<std::unique_ptr<Tracker>> alone;
  for (const Box& box : boxes) {
    together.add(noise(120, 90, 1), box);
    alone.push_back(std::make_unique<Tracker>(tiny_bundle(), at::kCPU, options));
    alone.back()->add(noise(120, 90, 1), box);
  }
  for (uint64_t i = 0; i < 5; ++i) {
    const auto all = together.update(noise(120, 90, 20 + i));
    for (size_t n = 0; n < boxes.size(); ++n) {
      const TrackedObject one = alone[n]->update(noise(120, 90, 20 + i))[0];
      EXPECT_EQ(all[n].id, static_cast<int>(n) + 1);
      EXPECT_NEAR(all[n].box.x, one.box.x, 0.05);
      EXPECT_NEAR(all[n].box.h, one.box.h, 0.05);
      EXPECT_NEAR(all[n].score, one.score, 1e-4);
    }
  }
  together.remove(2);
  const auto rest = together.update(noise(120, 90, 30));
  ASSERT_EQ(rest.size(), 2U);
  EXPECT_EQ(rest[1].id, 3);
  EXPECT_EQ(together.add(noise(120, 90, 31), boxes[0]), 4) << "ids are not used again";
}

TEST(Tracker, TheSecondTemplateIsRenewedByTheRule) {
  TrackerOptions options;
  options.lost_below = options.update_above = 0;
  const std::vector<std::string> two = {"model.templates=2"};
  Tracker never(tiny_bundle(two), at::kCPU, options);
  options.update_every = 3;
  Tracker often(tiny_bundle(two), at::kCPU, options);
  for (Tracker* tracker : {&never, &often}) {
    tracker->add(noise(120, 90, 1), {40, 30, 24, 20});
  }
  for (uint64_t i = 1; i <= 6; ++i) {
    const TrackedObject a = never.update(noise(120, 90, 40 + i))[0],
                        b = often.update(noise(120, 90, 40 + i))[0];
    if (i <= 3) {
      EXPECT_TRUE(same(a.box, b.box)) << i;
    } else if (i == 4) {
      EXPECT_NE(a.score, b.score);
    }
  }
}

TEST(Tracker, BoxesWithoutAreaInTheFrameAreRefused) {
  Tracker tracker(tiny_bundle(), at::kCPU);
  const datasets::Image frame = noise(120, 90, 1);
  for (const Box& box : {Box{10, 10, 0, 5}, Box{10, 10, 5, -1}, Box{120, 0, 5, 5}, Box{-6, 0, 5, 5},
                         Box{NAN, 0, 5, 5}}) {
    EXPECT_THROW(tracker.add(frame, box), UsageError);
  }
  EXPECT_TRUE(tracker.update(frame).empty());
}

TEST(TrackerCuda, FollowsAsOnTheCpuWithinAPixel) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  TrackerOptions options;
  options.lost_below = 0;
  Tracker cpu(tiny_bundle(), at::kCPU, options);
  Tracker gpu(tiny_bundle(), at::Device(at::kCUDA, 0), options);
  for (uint64_t i = 0; i < 6; ++i) {
    cpu.clear();  // from the same box every time: small differences do not add up
    gpu.clear();
    for (Tracker* tracker : {&cpu, &gpu}) {
      tracker->add(noise(320, 240, 1), {140, 100, 50, 40});
      tracker->add(noise(320, 240, 1), {20, 30, 30, 40});
    }
    const auto a = cpu.update(noise(320, 240, 50 + i)), b = gpu.update(noise(320, 240, 50 + i));
    for (size_t n = 0; n < a.size(); ++n) {
      EXPECT_NEAR(a[n].score, b[n].score, 0.02);
      EXPECT_NEAR(a[n].box.x, b[n].box.x, 1);
      EXPECT_NEAR(a[n].box.y, b[n].box.y, 1);
      EXPECT_NEAR(a[n].box.w, b[n].box.w, 1);
      EXPECT_NEAR(a[n].box.h, b[n].box.h, 1);
    }
  }
}

class TrackRunTest : public FolderTest {
 protected:
  void SetUp() override {
    FolderTest::SetUp();
    SyntheticOptions options;
    options.sequences = 3;
    options.frames = 24;
    options.width = 160;
    options.height = 120;
    options.split = "val";
    write_synthetic_got10k(root / "val", options, [](int) {});
  }
  TrackConfig config(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> all = {
        fmt::format("data.train=[\"got10k:{}\"]", (root / "val").string()),
        fmt::format("data.eval=[\"got10k:{}\"]", (root / "val").string())};
    all.insert(all.end(), more.begin(), more.end());
    return tiny_config(all);
  }
  vision::TrainResult train(const std::string& run, const TrackConfig& c,
                            bool resume = false) const {
    TrackTask task(c, at::kCPU);
    std::filesystem::create_directories(root / run);
    return vision::train(
        task, c.train,
        {.folder = root / run, .title = run, .config = dump(c), .seed = 0, .resume = resume});
  }
  std::map<std::string, at::Tensor> weights(const std::string& run) const {
    return vision::load_safetensors(root / run / "checkpoints/last/model.safetensors").tensors;
  }
};

TEST_F(TrackRunTest, ARunThatIsCutAndResumedIsTheRunThatWasNotCut) {
  train("whole", config());
  train("cut", config({"train.max_steps=5"}));
  train("cut", config(), true);
  const auto a = weights("whole"), b = weights("cut");
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [name, tensor] : a) {
    EXPECT_TRUE(tensor.equal(b.at(name))) << name;
  }
}

TEST_F(TrackRunTest, TheBackboneHasItsShareOfTheRate) {
  TrackTask task(config({"train.backbone_lr=0"}), at::kCPU);
  EXPECT_EQ(task.lr_scale("backbone.patch_embed.proj.weight"), 0);
  EXPECT_EQ(task.lr_scale("head.score.0.weight"), 1);
  train("frozen", config({"train.backbone_lr=0", "train.max_steps=3", "train.weight_decay=0"}));
  const TrackTask fresh(config(), at::kCPU);
  at::manual_seed(0);
  Network same_seed(config().network);
  const auto trained = weights("frozen");
  for (const auto& item : same_seed->named_parameters()) {
    const bool equal = trained.at(item.key()).equal(item.value());
    EXPECT_EQ(equal, item.key().starts_with("backbone.")) << item.key();
  }
}

TEST_F(TrackRunTest, EvaluationDoesNotDependOnTheSizeOfItsBatches) {
  const auto evaluated = [&](const std::string& batch) {
    at::manual_seed(3);
    TrackTask task(config({"data.eval_samples=7", "train.batch_size=" + batch}), at::kCPU);
    return task.evaluate();
  };
  const vision::Metrics one = evaluated("1"), three = evaluated("3"), seven = evaluated("7");
  ASSERT_EQ(one.size(), 5U);
  for (size_t i = 0; i < one.size(); ++i) {
    EXPECT_NEAR(three[i].second, one[i].second, 1e-6 * std::abs(one[i].second)) << one[i].first;
    EXPECT_NEAR(seven[i].second, one[i].second, 1e-6 * std::abs(one[i].second)) << one[i].first;
  }
}

TEST_F(TrackRunTest, WeightsComeBackWithTheirConfiguration) {
  train("run", config({"train.max_steps=2"}));
  const TrackerBundle bundle = load_tracker(root / "run", "auto", at::kCPU);
  EXPECT_EQ(bundle.config.network.template_size, 32);
  EXPECT_TRUE(bundle.config.data.train.empty()) << "no paths of this machine";
  EXPECT_EQ(bundle.hash.size(), 8U);
  EXPECT_EQ(weights_task(root / "run"), "track");
  for (const auto& [name, tensor] : vision::load_safetensors(bundle.weights).tensors) {
    const auto* parameter = bundle.network->named_parameters().find(name);
    if (parameter != nullptr) {
      EXPECT_TRUE(parameter->equal(tensor)) << name;
    }
  }
  TrackTask begun(config({fmt::format("model.init={}", (root / "run").string())}), at::kCPU);
  for (const auto& item : begun.model().named_parameters()) {
    if (item.key().starts_with("backbone.")) {
      EXPECT_TRUE(item.value().equal(*bundle.network->named_parameters().find(item.key())));
    }
  }
  EXPECT_THROW(
      TrackTask(config({fmt::format("model.init={}", (root / "run").string()), "model.width=128"}),
                at::kCPU),
      Error);
}

}  // namespace
}  // namespace comba::tracking
