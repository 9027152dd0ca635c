#include "tracking/benchmark.h"

#include "tests/tracking/folder.h"
#include "tracking/score.h"
#include "vision/base/error.h"

#include <filesystem>

#include <gtest/gtest.h>

namespace comba::tracking {
namespace {

namespace fs = std::filesystem;

class BenchmarkFolder : public FolderTest {
 protected:
  void write_got10k(const std::string& name, const std::string& object_class) const {
    write(name + "/groundtruth.txt", "10.0,10.0,20.0,20.0\n12.0,10.0,20.0,20.0\n-1,-1,-1,-1\n");
    write(name + "/cover.label", "8\n3\n0\n");
    write(name + "/meta_info.ini",
          "[METAINFO]\nurl: somewhere\nbegin: 00:00:00\nend: 00:00:01\nanno_fps: "
          "10Hz\nobject_class: " +
              object_class +
              "\nmotion_class: running\nmajor_class: animal\nroot_class: animal\n"
              "motion_adverb: fast\nresolution: (1920, 1080)\n");
  }
  std::string message(const auto& body) const {
    try {
      body();
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
};

TEST_F(BenchmarkFolder, ReadsGot10k) {
  write("list.txt", "GOT-10k_Val_000001\nGOT-10k_Val_000002\n");
  write_got10k("GOT-10k_Val_000001", "bear");
  write_got10k("GOT-10k_Val_000002", "duck");
  const auto sequences = read_got10k(root);
  ASSERT_EQ(sequences.size(), 2U);
  EXPECT_EQ(sequences[1].name, "GOT-10k_Val_000002");
  EXPECT_EQ(sequences[1].object_class, "duck");
  EXPECT_EQ(sequences[1].motion_class, "running");
  EXPECT_EQ(sequences[0].visible, (std::vector<uint8_t>{1, 1, 0}));
  EXPECT_EQ(sequences[0].width, 1920);
  EXPECT_EQ(sequences[0].height, 1080);
  EXPECT_EQ(sequences[0].truth[1], (Box{12, 10, 20, 20}));
}

TEST_F(BenchmarkFolder, SaysWhatIsWrongWithGot10k) {
  EXPECT_NE(message([&] { read_got10k(root / "nowhere"); }).find("there is nothing"),
            std::string::npos);
  fs::create_directories(root / "val");
  EXPECT_NE(message([&] { read_got10k(root); }).find("did you mean its folder val?"),
            std::string::npos);
  write("list.txt", "GOT-10k_Val_000001\n");
  write_got10k("GOT-10k_Val_000001", "bear");
  write("GOT-10k_Val_000001/cover.label", "8\n3\n");
  EXPECT_NE(message([&] { read_got10k(root); }).find("cover.label: expected 3 flags"),
            std::string::npos);
  fs::remove(root / "GOT-10k_Val_000001/cover.label");
  EXPECT_NE(message([&] { read_got10k(root); }).find("scored by its server"), std::string::npos);
  write_got10k("GOT-10k_Val_000001", "bear");
  write("GOT-10k_Val_000001/meta_info.ini", "[METAINFO]\nresolution: 1920x1080\n");
  EXPECT_NE(message([&] { read_got10k(root); }).find("got \"1920x1080\""), std::string::npos);
  write("GOT-10k_Val_000001/groundtruth.txt", "");
  EXPECT_NE(message([&] { read_got10k(root); }).find("got an empty file"), std::string::npos);
}

TEST_F(BenchmarkFolder, ReadsBothLayoutsOfLasotAlike) {
  write("own/bird/bird-1/groundtruth.txt", "1,2,3,4\n5,6,7,8\n9,9,9,9\n");
  write("own/bird/bird-1/full_occlusion.txt", "0,1,0");
  write("own/bird/bird-1/out_of_view.txt", "0,0,1");
  write("own/testing_set.txt", "bird-1");  // without a final newline
  write("flat/annos/bird-1.txt", "1,2,3,4\n5,6,7,8\n9,9,9,9\n");
  write("flat/absent/bird-1.txt", "0\n1\n1\n");
  write("flat/att/bird-1.txt", "1,0,0,0,0,0,0,0,0,0,0,0,0,1\n");
  const auto own = read_lasot(root / "own"), flat = read_lasot(root / "flat");
  ASSERT_EQ(own.size(), 1U);
  ASSERT_EQ(flat.size(), 1U);
  EXPECT_EQ(own[0].truth, flat[0].truth);
  EXPECT_EQ(own[0].visible, flat[0].visible);
  EXPECT_EQ(own[0].object_class, "bird");
  EXPECT_EQ(flat[0].attributes[13], 1);
  fs::remove(root / "own/testing_set.txt");
  EXPECT_EQ(read_lasot(root / "own").size(), 1U);  // by its folders
}

TEST_F(BenchmarkFolder, FindsResultsWhereverToolkitsPutThem) {
  write("a/bird-1.txt", "1,2,3,4\n");
  write("a/bird-1_time.txt", "0.5\n");
  write("b/bird-1/bird-1_001.txt", "1,2,3,4\n");
  write("b/bird-1/bird-1_002.txt", "1,2,3,4\n");
  write("b/bird-1/bird-1_time.txt", "0.5,0.25\n");
  write("c/bird-1.txt", "1,2,3,4\n");
  write("c/times/bird-1_time.txt", "0.5\n");
  EXPECT_EQ(find_results(root / "a", "bird-1").boxes.size(), 1U);
  EXPECT_EQ(find_results(root / "a", "bird-1").times, root / "a/bird-1_time.txt");
  EXPECT_EQ(find_results(root / "b", "bird-1").boxes.size(), 2U);
  EXPECT_EQ(find_results(root / "c", "bird-1").times, root / "c/times/bird-1_time.txt");
  EXPECT_TRUE(find_results(root / "a", "bird-10").boxes.empty());
}

class Scored : public BenchmarkFolder {
 protected:
  void SetUp() override {
    BenchmarkFolder::SetUp();
    std::string list;
    for (int n = 1; n <= 7; ++n) {
      const std::string name = fmt::format("GOT-10k_Val_{:06}", n);
      list += name + "\n";
      write_got10k(name, n % 2 == 0 ? "bear" : "duck");
      write(fmt::format("results/{0}/{0}_001.txt", name),
            fmt::format("10,10,20,20\n{},10,20,20\n5,5,5,5\n", 12 + n));
      write(fmt::format("results/{0}/{0}_time.txt", name), "0.5\n0.25\n0\n");
    }
    write("list.txt", list);
  }
};

TEST_F(Scored, GivesTheSameWhateverTheNumberOfThreads) {
  const auto sequences = read_got10k(root);
  const TrackerResults tracker{"ours", root / "results"};
  const auto one = score_got10k(sequences, tracker, {.threads = 1});
  const auto many = score_got10k(sequences, tracker, {.threads = 5});
  EXPECT_EQ(one.overall.ao, many.overall.ao);
  EXPECT_EQ(one.class_balanced_ao, many.class_balanced_ao);
  ASSERT_EQ(one.scores.size(), 7U);
  EXPECT_NEAR(one.scores[0].ao, 19.0 / 21, 1e-12);  // one pixel off, 20 wide
  EXPECT_DOUBLE_EQ(one.frames_per_second, 3.0);     // the mean of 2 and 4
  EXPECT_EQ(one.lengths[0], 2U);
}

TEST_F(Scored, RepetitionsArePooled) {
  write("results/GOT-10k_Val_000001/GOT-10k_Val_000001_002.txt",
        "10,10,20,20\n12,10,20,20\n5,5,5,5\n");
  const auto report = score_got10k(read_got10k(root), {"ours", root / "results"}, {});
  EXPECT_NEAR(report.scores[0].ao, (19.0 / 21 + 1) / 2, 1e-12);
}

TEST_F(Scored, MissingResultsAreNamedOrLeftOut) {
  fs::remove_all(root / "results/GOT-10k_Val_000003");
  const auto sequences = read_got10k(root);
  const TrackerResults tracker{"ours", root / "results"};
  const std::string text = message([&] { score_got10k(sequences, tracker, {}); });
  EXPECT_NE(text.find("1 are not there: GOT-10k_Val_000003; --partial"), std::string::npos) << text;
  EXPECT_EQ(score_got10k(sequences, tracker, {.partial = true}).scores.size(), 6U);
  EXPECT_THROW(score_got10k(sequences, {"none", root / "nowhere"}, {.partial = true}), Error);
}

TEST_F(Scored, ABrokenResultIsNamed) {
  write("results/GOT-10k_Val_000005/GOT-10k_Val_000005_001.txt", "10,10,20,20\nbroken\n");
  const std::string text =
      message([&] { score_got10k(read_got10k(root), {"ours", root / "results"}, {.threads = 3}); });
  EXPECT_NE(text.find("GOT-10k_Val_000005_001.txt:2"), std::string::npos) << text;
}

}  // namespace
}  // namespace comba::tracking
