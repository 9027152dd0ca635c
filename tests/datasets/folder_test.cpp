// Class folders and the choice of a split.
#include "datasets/folder.h"

#include "datasets/decode.h"
#include "tests/base/temporary_folder.h"
#include "tests/datasets/pictures.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/log.h"

namespace comba::datasets {
namespace {
namespace fs = std::filesystem;

using testing_tools::message_of;
using testing_tools::TemporaryFolder;

void touch(const fs::path& path) {
  fs::create_directories(path.parent_path());
  write_file_atomic(path, "x");
}

TEST(Folder, ClassesAreTheSubfoldersInSortedOrder) {
  const TemporaryFolder root;
  for (const char* path : {"dog/2.jpg", "dog/1.PNG", "cat/deep/er/9.jpeg", "ant/a.webp",
                           "readme.png", "dog/notes.txt", "dog/.hidden.jpg", ".git/x.jpg"}) {
    touch(root.path() / path);
  }
  const auto source = open_folder(root.path());
  EXPECT_EQ(source->classes(), (std::vector<std::string>{"ant", "cat", "dog"}));
  std::vector<std::string> found;
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < source->size(); ++i) {
    found.push_back(source->original(i));
    labels.push_back(source->label(i));
  }
  EXPECT_EQ(found, (std::vector<std::string>{"ant/a.webp", "cat/deep/er/9.jpeg", "dog/1.PNG",
                                             "dog/2.jpg"}));
  EXPECT_EQ(labels, (std::vector<int64_t>{0, 1, 2, 2}));
  EXPECT_EQ(source->read(3).label, 2);
  const EncodedSample sample = source->read(3);
  EXPECT_EQ(std::string(sample.bytes.begin(), sample.bytes.end()), "x");
}

TEST(Folder, AnEmptyClassKeepsItsLabelAndIsWarnedOf) {
  const TemporaryFolder root;
  touch(root.path() / "a/1.jpg");
  fs::create_directories(root.path() / "b");
  touch(root.path() / "c/1.jpg");
  std::string warning;
  auto before = log::set_sink([&](log::Level, std::string_view line) { warning += line; });
  const auto source = open_folder(root.path());
  log::set_sink(before);
  EXPECT_EQ(source->classes().size(), 3U);
  EXPECT_EQ(source->label(1), 2);
  EXPECT_SAYS(warning, "class folder b holds no images");
}

TEST(Folder, NothingToReadIsAnErrorThatNamesTheFolder) {
  const TemporaryFolder root;
  EXPECT_SAYS(message_of<Error>([&] { open_folder(root.path()); }), "holds no class folders");
  fs::create_directories(root.path() / "a");
  fs::create_directories(root.path() / "b");
  const std::string message = message_of<Error>([&] { open_folder(root.path()); });
  EXPECT_SAYS(message, root.path().string());
  EXPECT_SAYS(message, "hold no image files");
}

TEST(Folder, TheFingerprintFollowsTheListOfFiles) {
  const TemporaryFolder root;
  write_class_folders(root.path(), 2, 2);
  const std::string first = open_folder(root.path())->fingerprint();
  EXPECT_EQ(open_folder(root.path())->fingerprint(), first);
  touch(root.path() / "class1/another.png");
  EXPECT_NE(open_folder(root.path())->fingerprint(), first);
}

TEST(Folder, AFileThatVanishedIsNamedWhenItIsRead) {
  const TemporaryFolder root;
  write_class_folders(root.path(), 1, 2);
  const auto source = open_folder(root.path());
  fs::remove(source->name(1));
  EXPECT_SAYS(message_of<Error>([&] { source->read(1); }), "001.png");
}

TEST(OpenImages, ASplitPicksAFolderOrAPackAndOtherwiseSaysWhatWasExpected) {
  const TemporaryFolder root;
  write_class_folders(root.path() / "train", 2, 3);
  write_class_folders(root.path() / "val", 2, 1);
  EXPECT_EQ(open_images(root.path(), "train")->size(), 6);
  EXPECT_EQ(open_images(root.path(), "val")->size(), 2);
  EXPECT_SAYS(message_of<Error>([&] { open_images(root.path()); }),
              "found train, val, which look like splits; name one of them");
  write_class_folders(root.path() / "vehicles" / "train", 1, 1);
  EXPECT_EQ(open_images(root.path())->classes(),
            (std::vector<std::string>{"train", "val", "vehicles"}));
  const std::string message = message_of<Error>([&] { open_images(root.path(), "test"); });
  EXPECT_SAYS(message, "test.pack");
  EXPECT_SAYS(message, "test-*.tar");
  EXPECT_SAYS(message_of<Error>([&] { open_images(root.path() / "absent", ""); }),
              "does not exist");
}

}  // namespace
}  // namespace comba::datasets
