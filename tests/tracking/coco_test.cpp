// COCO's objects as pairs: which are taken, how they are read from a large file, what is said of a broken one.
#include "tracking/coco.h"

#include "datasets/decode.h"
#include "tests/base/temporary_folder.h"
#include "tests/tracking/folder.h"
#include "tracking/coco_objects.h"
#include "tracking/pair_loader.h"
#include "tracking/training_data.h"
#include "tracking/video_problems.h"
#include "vision/base/error.h"

#include <map>

namespace comba::tracking {
namespace {

using testing_tools::message_of;

// As the official file: information and licences first, segmentations of every kind, one line, annotations after images.
constexpr const char* kInstances =
    R"({"info": {"year": 2017, "id": 5}, "licenses": [{"id": 1, "url": "x"}],
"images": [{"license": 3, "file_name": "000000000009.jpg", "height": 48, "width": 64, "id": 9},
           {"license": 1, "file_name": "000000000025.jpg", "height": 40, "width": 40, "id": 25}],
"annotations": [
  {"segmentation": [[1.5, 2, 3e1, 4]], "area": 12.25, "iscrowd": 0, "image_id": 25, "bbox": [1.5, 2, 10.25, 20], "category_id": 18, "id": 1768},
  {"segmentation": {"counts": [272, 2, 4], "size": [48, 64]}, "iscrowd": 1, "image_id": 9, "bbox": [0, 0, 64, 48], "category_id": 1, "id": 900100000009},
  {"segmentation": [[1, 2]], "iscrowd": 0, "image_id": 9, "bbox": [3, 4, 1, 2], "category_id": 1, "id": 40},
  {"segmentation": [[1, 2]], "iscrowd": 0, "image_id": 25, "bbox": [5, 5, 0, 7], "category_id": 1, "id": 41},
  {"segmentation": [], "iscrowd": 0, "image_id": 9, "bbox": [30, 20, 16, 12], "category_id": 2, "id": 1769}],
"categories": [{"supercategory": "person", "id": 1, "name": "person"}]})";

CocoObjects parse(const std::string& text) {
  return parse_coco({reinterpret_cast<const uint8_t*>(text.data()), text.size()}, "i.json");
}

TEST(Coco, TakesEveryObjectThatIsNoCrowdWithItsImage) {
  const CocoObjects found = parse(kInstances);
  EXPECT_EQ(found.images, (std::vector<std::string>{"000000000009.jpg", "000000000025.jpg"}));
  ASSERT_EQ(found.objects.size(), 4U);
  const std::vector<int64_t> ids = {40, 1769, 1768, 41};  // image after image, each in its order
  for (size_t n = 0; n < ids.size(); ++n) {
    EXPECT_EQ(found.objects[n].id, ids[n]);
    EXPECT_EQ(found.objects[n].image, n / 2);
  }
  EXPECT_EQ(found.objects[2].box, (Box{1.5, 2, 10.25, 20}));
}

TEST(Coco, TheListsMayComeInAnyOrder) {
  const CocoObjects found = parse(
      R"({"annotations": [{"bbox": [1, 2, 3, 4], "id": 7, "image_id": 8}], "images": [{"id": 8, "file_name": "a.jpg"}]})");
  ASSERT_EQ(found.objects.size(), 1U);
  EXPECT_EQ(found.objects[0].id, 7);
}

TEST(Coco, ABrokenFileIsNamedWithWhatIsBroken) {
  const std::string image = R"({"images": [{"id": 8, "file_name": "a.jpg"}], "annotations": [)";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "not the JSON"},
      {"[1, 2]", "found none"},
      {std::string(kInstances).substr(0, 700), "not the JSON"},
      {image + "]}", "found none"},
      {image + R"({"id": 7, "image_id": 9, "bbox": [1, 2, 3, 4]}]})",
       "annotation 7 is of image 9, which is not in \"images\""},
      {image + R"({"id": 7, "image_id": 8, "bbox": [1, 2, 3]}]})",
       "annotation 7: expected \"bbox\" with four numbers, got 3"},
      {image + R"({"id": 7, "image_id": 8}]})", "annotation 7: expected \"bbox\""},
      {image + R"({"id": 7, "bbox": [1, 2, 3, 4]}]})",
       "entry 0 of \"annotations\" (from 0) has no whole number \"image_id\""},
      {image + R"({"id": 7.5, "image_id": 8, "bbox": [1, 2, 3, 4]}]})", "no whole number \"id\""},
      {R"({"images": [{"id": 8}]})", "image 8 has no \"file_name\""},
      {R"({"images": [{"id": 8, "file_name": "a"}, {"id": 8, "file_name": "b"}]})",
       "image 8 is there twice"}};
  for (const auto& [text, says] : cases) {
    const std::string message = message_of<Error>([&] { parse(text); });
    EXPECT_SAYS(message, "reading i.json");
    EXPECT_SAYS(message, says);
  }
}

class CocoFolderTest : public FolderTest {
 protected:
  void SetUp() override {
    FolderTest::SetUp();
    write("coco/annotations/instances_train2017.json", kInstances);
    write("coco/train2017/000000000009.jpg", jpeg(64, 48));
    write("coco/train2017/000000000025.jpg", jpeg(40, 40));
  }
  static std::string jpeg(int width, int height) {
    datasets::Image image{height, width, 3, {}};
    RandomStream random(6, 0, static_cast<uint64_t>(width), RandomPurpose::synthesise);
    for (int i = 0; i < width * height * 3; ++i) {
      image.pixels.push_back(static_cast<uint8_t>(random.below(256)));
    }
    return datasets::encode_jpeg(image, 95);
  }
  TrainingSet read() const {
    return read_training_set("coco:" + (root / "coco").string(), true, 2);
  }
};

TEST_F(CocoFolderTest, EveryObjectWithAnAreaIsAStillHoweverSmall) {
  const TrainingSet set = read();
  ASSERT_EQ(set.videos.size(), 3U);
  EXPECT_EQ(set.left_out, 1) << "without width";
  const std::vector<std::string> names = {"9-40", "9-1769", "25-1768"};
  for (size_t n = 0; n < names.size(); ++n) {
    EXPECT_EQ(set.videos[n].name, names[n]);
    EXPECT_TRUE(set.videos[n].still);
    EXPECT_EQ(set.videos[n].size(), 1U);
  }
  EXPECT_EQ(set.videos[0].truth[0], (Box{3, 4, 1, 2}));
  EXPECT_EQ(set.videos[1].decode(0).width, 64);
  EXPECT_EQ(set.videos[2].decode(0).width, 40);
  EXPECT_TRUE(set.videos[0].same_image(set.videos[1]));
  EXPECT_FALSE(set.videos[1].same_image(set.videos[2]));
}

TEST_F(CocoFolderTest, OstracksFoldersAndAFileOfNamesWorkToo) {
  std::filesystem::create_directories(root / "coco/images");
  std::filesystem::rename(root / "coco/train2017", root / "coco/images/train2017");
  write("some.txt", "25-1768\n0\n");
  const TrainingSet set = read_training_set(
      "coco:" + (root / "coco").string() + "#" + (root / "some.txt").string(), true, 2);
  ASSERT_EQ(set.videos.size(), 2U);
  EXPECT_EQ(set.videos[0].name, "25-1768");
  EXPECT_EQ(set.videos[1].name, "9-40");
  EXPECT_EQ(set.videos[1].decode(0).width, 64);
}

TEST_F(CocoFolderTest, MissingPartsAreNamed) {
  const std::string folder = "coco:" + (root / "coco").string();
  std::filesystem::rename(root / "coco/train2017", root / "coco/elsewhere");
  EXPECT_SAYS(message_of<Error>([&] { list_videos(folder); }), "train2017 or images/train2017");
  std::filesystem::remove(root / "coco/annotations/instances_train2017.json");
  EXPECT_SAYS(message_of<Error>([&] { list_videos(folder); }), "instances_train2017.json");
}

// One image is both, jittered apart, and joint changes stay joint: the template of an unjittered search is its middle.
TEST_F(CocoFolderTest, AnImageIsItsOwnTemplateAndSearch) {
  const TrainingSet set = read();
  const PairSampler sampler({set}, {1}, 1);
  CropOptions options;
  options.template_factor = options.search_factor = 2;
  options.template_size = options.search_size = 32;
  options.search_center_jitter = options.search_scale_jitter = 0;
  options.grey = options.flip = 0.5;
  options.brightness = 0;
  std::map<std::string, int> drawn;
  int alike = 0, mirrored = 0;
  for (uint64_t n = 0; n < 200; ++n) {
    RandomStream random(9, 0, n, RandomPurpose::pair);
    const PairDraw draw = sampler.draw(random);
    ++drawn[draw.video->name];
    const auto pair = make_pair(draw, read_frames(draw), options, random);
    ASSERT_TRUE(pair.has_value());
    EXPECT_NEAR(pair->target.x + pair->target.w / 2, 0.5, 0.35);
    (pair->templates[0].pixels == pair->search.pixels ? alike : mirrored) += 1;
  }
  EXPECT_EQ(drawn.size(), 3U);
  EXPECT_NEAR(alike, 100, 35) << "each crop is also mirrored by itself, half the time";
  EXPECT_NEAR(mirrored, 100, 35);
  options.search_center_jitter = 3;
  RandomStream random(9, 0, 0, RandomPurpose::pair);
  const PairDraw draw = sampler.draw(random);
  const auto pair = make_pair(draw, read_frames(draw), options, random);
  ASSERT_TRUE(pair.has_value());
  EXPECT_NE(pair->templates[0].pixels, pair->search.pixels);
}

TEST_F(CocoFolderTest, ACheckDecodesAnImageOnceAndNamesItsObjects) {
  const std::string folder = "coco:" + (root / "coco").string();
  EXPECT_TRUE(video_problems(list_videos(folder)).lines.empty());
  write("coco/train2017/000000000009.jpg", "no image");
  write("coco/train2017/000000000025.jpg", jpeg(40, 2));  // the object begins below
  const VideoProblems problems = video_problems(list_videos(folder));
  ASSERT_EQ(problems.lines.size(), 2U) << "one line for an image, though it has two objects";
  EXPECT_SAYS(problems.lines[0], "000000000009.jpg");
  EXPECT_SAYS(problems.lines[1], "000000000025.jpg: the box 1.5,2,10.25,20 lies outside");
}

}  // namespace
}  // namespace comba::tracking
