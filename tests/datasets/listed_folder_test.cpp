// Flat folders with files of labels: ImageNet's validation images in the forms in which they are found.
#include "datasets/listed_folder.h"

#include "datasets/label_list.h"
#include "tests/base/temporary_folder.h"
#include "tests/datasets/pictures.h"
#include "vision/base/error.h"
#include "vision/base/files.h"

namespace comba::datasets {
namespace {
namespace fs = std::filesystem;

using testing_tools::message_of;
using testing_tools::TemporaryFolder;

class ListedFolder : public testing::Test {
 protected:
  ListedFolder() {
    for (int i = 1; i <= 3; ++i) {
      write("val/ILSVRC2012_val_0000000" + std::to_string(i) + ".JPEG", "image");
    }
  }
  void write(const std::string& path, const std::string& text) const {
    fs::create_directories((root_.path() / path).parent_path());
    write_file_atomic(root_.path() / path, text);
  }
  // Labels of the images, as class names.
  std::vector<std::string> classes_of_images() const {
    const auto source = open_images(root_.path(), "val");
    std::vector<std::string> found;
    for (int64_t i = 0; i < source->size(); ++i) {
      found.push_back(source->classes()[source->label(i)]);
    }
    return found;
  }
  std::string problem() const {
    return message_of<Error>([&] { open_images(root_.path(), "val"); });
  }

  const TemporaryFolder root_;
  const std::vector<std::string> expected_ = {"n03", "n01", "n02"};
};

TEST_F(ListedFolder, NamesAndSynsetsInAnyUsualForm) {
  const std::vector<std::string> texts = {
      "ILSVRC2012_val_00000001.JPEG n03\nILSVRC2012_val_00000002.JPEG "
      "n01\r\nILSVRC2012_val_00000003.JPEG n02",
      "val/ILSVRC2012_val_00000003.JPEG\tn02\n\nval/ILSVRC2012_val_00000001.JPEG\tn03\nval/"
      "ILSVRC2012_val_00000002.JPEG\tn01\n",
      "ImageId,PredictionString\nILSVRC2012_val_00000002,n01 85 1 499 272 "
      "\nILSVRC2012_val_00000001,n03 1 2 3 4 n03 5 6 7 8 \n"
      "ILSVRC2012_val_00000003,n02 9 9 9 9 \n",
      "n03\nn01\nn02\n"};
  for (const std::string& text : texts) {
    for (const char* file :
         {"val/labels.txt", "val.txt", "val_labels.txt", "synset_labels.txt",
          "imagenet_2012_validation_synset_labels.txt", "LOC_val_solution.csv"}) {
      write(file, text);
      EXPECT_EQ(classes_of_images(), expected_) << file << "\n" << text;
      fs::remove(root_.path() / file);
    }
  }
}

TEST_F(ListedFolder, TheFoldersOfTrainGiveTheLabels) {
  write("val.txt", "n03\nn01\nn02\n");
  for (const char* folder : {"n00", "n01", "n02", "n03", "n04"}) {
    fs::create_directories(root_.path() / "train" / folder);
  }
  const auto source = open_images(root_.path(), "val");
  EXPECT_EQ(source->classes().size(), 5U);
  EXPECT_EQ(source->label(0), 3);
  EXPECT_EQ(classes_of_images(), expected_);
  fs::remove(root_.path() / "train/n01");
  EXPECT_SAYS(
      problem(),
      "ILSVRC2012_val_00000002.JPEG is of class n01, which is none of the 4 classes n00 .. n04");
}

TEST_F(ListedFolder, NumbersWithNamesArePlacesAmongTheSortedClasses) {
  const std::string numbers =
      "ILSVRC2012_val_00000001.JPEG 2\nILSVRC2012_val_00000002.JPEG "
      "0\nILSVRC2012_val_00000003.JPEG 1\n";
  write("val.txt", numbers);
  EXPECT_EQ(classes_of_images(), (std::vector<std::string>{"2", "0", "1"}));
  write("synset_words.txt", "n03 great white shark\nn01 tench\nn02 goldfish\n");
  EXPECT_EQ(classes_of_images(), expected_);
}

TEST_F(ListedFolder, NumbersAloneAreRefusedAsTheyMayMeanAnything) {
  write("val.txt", "3\n1\n2\n");
  EXPECT_SAYS(problem(), "may count from 0 or from 1");
}

TEST_F(ListedFolder, TheDevkitsNumbersNeedItsSynsets) {
  const std::string data = "ILSVRC2012_devkit_t12/data/";
  write(data + "ILSVRC2012_validation_ground_truth.txt", "1\n3\n2\n");
  EXPECT_SAYS(problem(), "ILSVRC2012_synsets.txt");
  EXPECT_SAYS(problem(), "scipy.io.loadmat('meta.mat'");
  write(data + "ILSVRC2012_synsets.txt", "2 n02\n1 n03\n3 n01\n");
  EXPECT_EQ(classes_of_images(), expected_);
  write(data + "ILSVRC2012_synsets.txt", "n01\nn02\nn03\n");
  EXPECT_SAYS(problem(), "ILSVRC2012_synsets.txt:1: \"n01\": expected ID SYNSET");
  write(data + "ILSVRC2012_synsets.txt", "1 n01\n3 n03\n");
  EXPECT_SAYS(problem(), "expected every ID from 1 on, got 2 of them up to 3");
  write(data + "ILSVRC2012_synsets.txt", "1 n01\n2 n03\n");
  EXPECT_SAYS(problem(), "label 2 is \"3\", expected an ID of 1 .. 2");
}

TEST_F(ListedFolder, KagglesLayoutIsFoundFromItsRoot) {
  fs::create_directories(root_.path() / "ILSVRC/Data/CLS-LOC");
  fs::rename(root_.path() / "val", root_.path() / "ILSVRC/Data/CLS-LOC/val");
  write("LOC_val_solution.csv",
        "ImageId,PredictionString\nILSVRC2012_val_00000001,n03 1 2 3 4 "
        "\nILSVRC2012_val_00000002,n01 1 2 3 4 \n"
        "ILSVRC2012_val_00000003,n02 1 2 3 4 \n");
  write("LOC_synset_mapping.txt", "n00 tench\nn01 goldfish\nn02 shark\nn03 ray\n");
  EXPECT_EQ(classes_of_images(), expected_);
  EXPECT_EQ(open_images(root_.path(), "val")->classes().size(), 4U);
  for (const char* folder : {"n00", "n01", "n02", "n03"}) {
    write("ILSVRC/Data/CLS-LOC/train/" + std::string(folder) + "/x.JPEG", "image");
  }
  EXPECT_EQ(open_images(root_.path(), "train")->size(), 4);
  EXPECT_EQ(open_images(root_.path(), "train")->classes(),
            open_images(root_.path(), "val")->classes());
}

TEST_F(ListedFolder, WhatIsMissingIsNamed) {
  EXPECT_SAYS(problem(), "LOC_val_solution.csv");
  EXPECT_SAYS(problem(), "val_labels.txt");
  write("val.txt", "ILSVRC2012_val_00000001.JPEG n03\n");
  EXPECT_SAYS(problem(), "val.txt: it has no label for ILSVRC2012_val_00000002.JPEG");
  write("val.txt", "n03\nn01\n");
  EXPECT_SAYS(problem(),
              "labels for images 1 to 2, and ILSVRC2012_val_00000003.JPEG is none of them");
  fs::remove_all(root_.path() / "val");
  fs::create_directories(root_.path() / "val");
  EXPECT_SAYS(problem(), "neither class folders nor images");
}

TEST_F(ListedFolder, TheFingerprintFollowsTheLabels) {
  write("val.txt", "n03\nn01\nn02\n");
  const std::string first = open_images(root_.path(), "val")->fingerprint();
  EXPECT_EQ(open_images(root_.path(), "val")->fingerprint(), first);
  write("val.txt", "n03\nn02\nn01\n");
  EXPECT_NE(open_images(root_.path(), "val")->fingerprint(), first);
}

TEST(LabelList, LinesThatCannotBeMeantAreNamed) {
  const auto problem = [](const std::string& text) {
    return message_of<Error>([&] { parse_labels(text, "l.txt"); });
  };
  EXPECT_SAYS(problem("a.jpg 1\nb\n"), "l.txt:2: \"b\": expected lines NAME CLASS throughout");
  EXPECT_SAYS(problem("b\na.jpg 1\n"), "l.txt:2");
  EXPECT_SAYS(problem("a.jpg 1\n\na.png 2\n"), "l.txt:3: a is named a second time");
  EXPECT_SAYS(problem(" , 1\n"), "expected the name of an image");
  EXPECT_SAYS(problem("\n \n"), "holds no labels");
  EXPECT_SAYS(message_of<Error>([] { parse_class_list("n1 a\nn2 b\nn1 c\n", "c.txt"); }),
              "the class n1 is listed twice");
}

}  // namespace
}  // namespace comba::datasets
