#include "tracking/submission.h"

#include "tests/tracking/folder.h"
#include "vision/base/error.h"
#include "vision/base/files.h"

#include <filesystem>

#include <gtest/gtest.h>

namespace comba::tracking {
namespace {

namespace fs = std::filesystem;

class Submission : public FolderTest {
 protected:
  void SetUp() override {
    FolderTest::SetUp();
    for (int n = 1; n <= 180; ++n) {
      const std::string name = fmt::format("GOT-10k_Test_{:06}", n);
      write("results/" + name + ".txt", "10\t20\t30\t40\n11.25\t20\t30\t40\n12\t20\t30\t40\n");
      write("results/" + name + "_time.txt", "0.5\n0.25\n0.125\n");
      write("test/" + name + "/groundtruth.txt", "10.0,20.0,30.0,40.0\n");
      for (int frame = 1; frame <= 3; ++frame) {
        write(fmt::format("test/{}/{:08}.jpg", name, frame), "");
      }
    }
  }
  // The only problem after `file` of the results has become `text`.
  std::string problem_with(const std::string& file, const std::string& text) const {
    write("results/" + file, text);
    pack_submission(root / "results", root / "ours.zip");
    const auto problems = submission_problems(root / "ours.zip", root / "test");
    EXPECT_EQ(problems.size(), 1U);
    return problems.empty() ? "" : problems[0];
  }
};

TEST_F(Submission, WhatWePackCanBeSent) {
  pack_submission(root / "results", root / "ours.zip");
  EXPECT_TRUE(submission_problems(root / "ours.zip", root / "test").empty());
  EXPECT_TRUE(submission_problems(root / "ours.zip", "").empty());
  const std::string first = read_file(root / "ours.zip");
  pack_submission(root / "results", root / "ours.zip");
  EXPECT_TRUE(read_file(root / "ours.zip") == first);  // byte for byte
  // As others see it.
  ASSERT_EQ(
      std::system(("cd '" + root.string() +
                   "' && python3 -c \"import zipfile; z = zipfile.ZipFile('ours.zip'); "
                   "assert len(z.namelist()) == 360; "
                   "assert z.read('GOT-10k_Test_000180/GOT-10k_Test_000180_001.txt').split()[1] "
                   "== b'11.250,20.000,30.000,40.000'; "
                   "assert z.read('GOT-10k_Test_000001/GOT-10k_Test_000001_time.txt').split()[2] "
                   "== b'0.12500000'\"")
                      .c_str()),
      0);
}

TEST_F(Submission, TheCheckNamesWhatIsWrong) {
  const std::string file = "GOT-10k_Test_000007.txt";
  EXPECT_EQ(
      problem_with(file, "15,20,30,40\n11,20,30,40\n12,20,30,40\n"),
      "GOT-10k_Test_000007/GOT-10k_Test_000007_001.txt:1: expected the given box 10,20,30,40, got "
      "15,20,30,40");
  EXPECT_EQ(problem_with(file, "10,20,30,40\nnan,nan,nan,nan\n12,20,30,40\n"),
            "GOT-10k_Test_000007/GOT-10k_Test_000007_001.txt:2: expected four numbers, got nan");
  write("results/GOT-10k_Test_000007_time.txt", "0.5\n0.5\n");
  EXPECT_EQ(
      problem_with(file, "10,20,30,40\n11,20,30,40\n"),
      "GOT-10k_Test_000007/GOT-10k_Test_000007_001.txt: expected 3 boxes, one a frame, got 2");
}

TEST_F(Submission, ForeignZipsAreJudgedWhole) {
  ASSERT_EQ(std::system(("cd '" + root.string() +
                         "' && python3 -c \"import zipfile; z = zipfile.ZipFile('other.zip', 'w'); "
                         "z.writestr('mine/GOT-10k_Test_000001/GOT-10k_Test_000001_001.txt', "
                         "'10 20 30 40\\n1 2 3 4\\n'); z.writestr('mine/notes.doc', 'x')\"")
                            .c_str()),
            0);
  const auto problems = submission_problems(root / "other.zip", "");
  EXPECT_EQ(problems.size(), 1 + 1 + 179 * 2 + 1U);  // no commas; its times; the others; the notes
  EXPECT_NE(problems[0].find("expected commas"), std::string::npos);
  EXPECT_EQ(problems.back(), "notes.doc: it does not belong to a submission");
}

TEST_F(Submission, RefusesWhatIsNoZipAndResultsThatAreNotThere) {
  write("broken.zip", "PK but not really");
  EXPECT_THROW(submission_problems(root / "broken.zip", ""), Error);
  EXPECT_THROW(submission_problems(root / "nowhere.zip", ""), Error);
  pack_submission(root / "results", root / "cut.zip");
  fs::resize_file(root / "cut.zip", fs::file_size(root / "cut.zip") / 2);
  EXPECT_THROW(submission_problems(root / "cut.zip", ""), Error);
  fs::remove(root / "results/GOT-10k_Test_000100_time.txt");
  EXPECT_THROW(pack_submission(root / "results", root / "never.zip"), Error);
  EXPECT_FALSE(fs::exists(root / "never.zip"));
}

TEST_F(Submission, DamageInsideIsFound) {
  pack_submission(root / "results", root / "ours.zip");
  std::string bytes = read_file(root / "ours.zip");
  bytes[bytes.find("_001.txt") + 12] ^= 0x55;  // in the first file's data
  write("damaged.zip", bytes);
  EXPECT_FALSE(submission_problems(root / "damaged.zip", "").empty());
}

}  // namespace
}  // namespace comba::tracking
