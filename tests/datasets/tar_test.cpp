// Tar archives: written by Python's tarfile and here by hand, whole and damaged.
#include "datasets/tar.h"

#include "datasets/tar_source.h"
#include "tests/base/temporary_folder.h"
#include "tests/datasets/pictures.h"
#include "vision/base/error.h"
#include "vision/base/files.h"

#include <cstdlib>
#include <cstring>
#include <map>

namespace comba::datasets {
namespace {
namespace fs = std::filesystem;

using testing_tools::message_of;
using testing_tools::TemporaryFolder;

// A member as ustar has it; `damage` may change the header before its checksum is made.
std::string member(const std::string& name, const std::string& content, char type = '0',
                   const std::function<void(std::string&)>& damage = {}) {
  std::string header(512, '\0');
  header.replace(0, std::min<size_t>(name.size(), 100), name.substr(0, 100));
  header.replace(124, 11, fmt::format("{:011o}", content.size()));
  header[156] = type;
  header.replace(257, 8, std::string("ustar\00000", 8));
  if (damage) {
    damage(header);
  }
  header.replace(148, 8, std::string(8, ' '));
  unsigned sum = 0;
  for (const unsigned char c : header) {
    sum += c;
  }
  header.replace(148, 7, fmt::format("{:06o}", sum) + std::string(1, '\0'));
  return header + content + std::string((512 - content.size() % 512) % 512, '\0');
}
const std::string kEnd(1024, '\0');

std::string pax(const std::string& records) { return member("PaxHeaders/x", records, 'x'); }

std::map<std::string, std::string> contents(const std::string& archive) {
  std::map<std::string, std::string> found;
  for (const TarMember& m : list_tar(as_bytes(archive), "a.tar")) {
    found[m.path] = archive.substr(m.offset, m.size);
  }
  return found;
}

std::string problem(const std::string& archive) {
  return message_of<Error>([&] { list_tar(as_bytes(archive), "a.tar"); });
}

// By Python's tarfile, which is not ours; false if there is no Python.
bool python_tar(const fs::path& folder, const std::string& format) {
  const std::string command = fmt::format(
      "cd '{}' && python3 -c \"import tarfile; t = tarfile.open('{}.tar', 'w', format=tarfile.{}); "
      "t.add('files'); t.close()\" 2>/dev/null",
      folder.string(), format, format);
  return std::system(command.c_str()) == 0;
}

TEST(Tar, ReadsWhatPythonWrites) {
  const TemporaryFolder root;
  std::map<std::string, std::string> expected;
  for (const std::string& name :
       {std::string("short"), std::string(90, 'n'), std::string(99, 'd') + "/x",
        std::string(200, 'l') + "/" + std::string(150, 'm')}) {
    const std::string path = "files/" + name;
    expected[path] = "content of " + name + std::string(name.size() * 5, '!');
    fs::create_directories((root.path() / path).parent_path());
    write_file_atomic(root.path() / path, expected[path]);
  }
  expected["files/empty"] = "";
  write_file_atomic(root.path() / "files/empty", "");
  for (const char* format : {"GNU_FORMAT", "PAX_FORMAT"}) {
    if (!python_tar(root.path(), format)) {
      GTEST_SKIP() << "there is no Python here";
    }
    EXPECT_EQ(contents(read_file(root.path() / (std::string(format) + ".tar"))), expected)
        << format;
  }
  fs::remove_all(root.path() / "files" / std::string(200, 'l'));  // beyond what ustar can name
  expected.erase("files/" + std::string(200, 'l') + "/" + std::string(150, 'm'));
  ASSERT_TRUE(python_tar(root.path(), "USTAR_FORMAT"));
  EXPECT_EQ(contents(read_file(root.path() / "USTAR_FORMAT.tar")), expected);
}

TEST(Tar, ExtendedHeadersNameTheNextMemberAndNoOther) {
  const std::string archive = pax("14 path=a/b.c\n") + member("ignored", "one") +
                              member("plain", "two") + member("././@LongLink", "long name", 'L') +
                              member("ignored", "three") + kEnd;
  const std::map<std::string, std::string> expected = {
      {"a/b.c", "one"}, {"plain", "two"}, {"long name", "three"}};
  EXPECT_EQ(contents(archive), expected);
}

TEST(Tar, SizesInPaxRecordsAndBase256AreRead) {
  const std::string zero = std::string(11, '0');
  const std::string by_pax = pax("9 size=3\n") + member("a", "abc", '0', [&](std::string& h) {
                               h.replace(124, 11, zero);
                             });
  EXPECT_EQ(contents(by_pax + kEnd).at("a"), "abc");
  const auto base256 = [](std::string& h) {
    h.replace(124, 12, std::string("\x80\0\0\0\0\0\0\0\0\0\0\x03", 12));
  };
  EXPECT_EQ(contents(member("a", "abc", '0', base256) + kEnd).at("a"), "abc");
}

TEST(Tar, DamageIsNamedWithTheOffsetOfItsHeader) {
  const std::string good = member("first", "12345");  // 1024 bytes
  const auto with = [&](const std::function<void(std::string&)>& damage) {
    return problem(good + member("second", "abc", '0', damage) + kEnd);
  };
  EXPECT_SAYS(with([](std::string& h) { h[130] = 'x'; }),
              "a.tar: header at byte 1024: expected an octal number");
  EXPECT_SAYS(with([](std::string& h) { h.replace(124, 11, "77777777777"); }),
              "bytes of content, 1536 are left");
  EXPECT_SAYS(with([](std::string& h) { h[124] = '\xff'; }), "header at byte 1024");
  std::string flipped = good + member("second", "abc") + kEnd;
  flipped[1024 + 3] ^= 1;
  EXPECT_SAYS(problem(flipped), "header at byte 1024: its checksum is");
  EXPECT_SAYS(problem(good + good), "header at byte 2048: expected a member or the end mark");
  EXPECT_SAYS(problem(good + kEnd + good), "header at byte 1024: more follows the end mark");
  EXPECT_SAYS(problem(good + "rest"), "expected 512 bytes, got 4; it is cut short");
  EXPECT_SAYS(problem(""), "header at byte 0");
  EXPECT_SAYS(problem(std::string(2000, 'x')), "header at byte 0: expected an octal number");
  EXPECT_SAYS(problem(pax("99 path=a\n") + member("b", "") + kEnd),
              "its extended header is damaged");
  EXPECT_SAYS(problem(pax("7 path\n") + member("b", "") + kEnd), "its extended header is damaged");
  EXPECT_SAYS(problem(pax("9 size=x\n") + member("b", "") + kEnd), "expected a size");
  EXPECT_SAYS(problem(pax("22 GNU.sparse.map=0,1\n") + member("b", "") + kEnd), "sparse");
  EXPECT_SAYS(problem(good + member("soft.jpg", "", '2') + kEnd), "soft.jpg is a link");
}

TEST(Tar, CutAnywhereItIsRefused) {
  const std::string whole =
      member("first", std::string(700, 'a')) + pax("14 path=a/b.c\n") + member("x", "y");
  for (size_t length = 0; length <= whole.size(); length += 64) {
    EXPECT_SAYS(problem(whole.substr(0, length)), "a.tar: header at byte");
  }
}

class TarSource : public testing::Test {
 protected:
  std::unique_ptr<ImageSource> open(const std::string& archive, const std::string& name = "a.tar") {
    write_file_atomic(root_.path() / name, archive + kEnd);
    return open_tars({root_.path() / name});
  }
  std::string problem_of(const std::string& archive) {
    return message_of<Error>([&] { open(archive); });
  }
  static std::string text(const EncodedSample& sample) {
    return {sample.bytes.begin(), sample.bytes.end()};
  }
  const TemporaryFolder root_;
};

TEST_F(TarSource, NumbersBesideTheImagesAreTheirLabels) {
  for (const auto& [extension, label] :
       std::vector<std::pair<std::string, std::string>>{{"cls", "2\n"},
                                                        {"label", "2"},
                                                        {"json", R"({"label": 2, "x": [1]})"},
                                                        {"json", R"({"cls": "2"})"}}) {
    const auto source =
        open(member("d/0001.jpg", "one") + member("d/0001." + extension, label) +
             member("d/0002.cls", "0") + member("d/0002.jpg", "two") + member("d/._0002.jpg", "?"));
    ASSERT_EQ(source->size(), 2);
    EXPECT_EQ(source->classes(), (std::vector<std::string>{"0", "1", "2"}));
    EXPECT_EQ(source->label(0), 2);
    EXPECT_EQ(source->label(1), 0);
    EXPECT_EQ(text(source->read(0)), "one");
    EXPECT_EQ(text(source->read(1)), "two");
    EXPECT_EQ(source->original(1), "d/0002.jpg");
    EXPECT_SAYS(source->read(1).name, "a.tar:d/0002.jpg");
  }
}

TEST_F(TarSource, ClassNamesOfNumbersAreInAFileBesideTheArchives) {
  write_file_atomic(root_.path() / "classes.txt", "tench\n gold fish\nshark\n");
  const std::string archive = member("1.jpg", "one") + member("1.cls", "1");
  EXPECT_EQ(open(archive)->classes()[1], "gold fish");
  write_file_atomic(root_.path() / "classes.txt", "tench\n");
  EXPECT_SAYS(problem_of(archive), "classes.txt: 1 lines, but labels up to 1");
}

TEST_F(TarSource, TextsAndFoldersAreClassNames) {
  const auto texts = open(member("1.png", "x") + member("1.label", "tench") + member("2.png", "y") +
                          member("2.label", "carp"));
  EXPECT_EQ(texts->classes(), (std::vector<std::string>{"carp", "tench"}));
  EXPECT_EQ(texts->label(0), 1);
  const auto folders = open(member("train/n02/a.b.JPEG", "x") + member("train/n02/a.c.JPEG", "y") +
                            member("./train/n01/c.JPEG", "z"));
  ASSERT_EQ(folders->size(), 3) << "images that share what is before the first dot stay apart";
  EXPECT_EQ(folders->classes(), (std::vector<std::string>{"n01", "n02"}));
  EXPECT_EQ(folders->label(0), 1);
  EXPECT_EQ(folders->label(2), 0);
  const auto captions =
      open(member("n02/1.jpg", "x") + member("n02/1.json", R"({"caption": "fish"})"));
  EXPECT_EQ(captions->classes(), std::vector<std::string>{"n02"})
      << "the JSON says nothing of labels";
}

TEST_F(TarSource, ManyImagesThatShareTheBeginningOfTheirNameTakeNoLongerThanOthers) {
  std::string archive;
  for (int i = 0; i < 20000; ++i) {
    archive += member(fmt::format("n01/photo.{}.jpg", i), "");
  }
  const auto source = open(archive);
  EXPECT_EQ(source->size(), 20000);
  EXPECT_EQ(source->original(19999), "n01/photo.19999.jpg");
}

TEST_F(TarSource, ArchivesOfOneSynsetEachAreClasses) {
  write_file_atomic(root_.path() / "n01.tar", member("n01_7.JPEG", "a") + kEnd);
  write_file_atomic(root_.path() / "n02.tar", member("n02_3.JPEG", "b") + kEnd);
  const auto source = open_images(root_.path());
  EXPECT_EQ(source->classes(), (std::vector<std::string>{"n01", "n02"}));
  EXPECT_EQ(source->label(1), 1);
  EXPECT_EQ(text(source->read(1)), "b");
}

TEST_F(TarSource, MissingOrMixedLabelsAreNamedWithTheirPlace) {
  EXPECT_SAYS(problem_of(member("1.jpg", "x")),
              "a.tar: 1.jpg at byte 512 has no label: expected 1.cls");
  EXPECT_SAYS(problem_of(member("1.jpg", "x") + member("1.json", "{}")),
              "1.jpg at byte 512 has no label");
  EXPECT_SAYS(problem_of(member("1.jpg", "x") + member("1.json", R"({"label": -1})")),
              "expected \"label\"");
  EXPECT_SAYS(problem_of(member("1.jpg", "x") + member("1.json", "{")), "expected a JSON object");
  EXPECT_SAYS(problem_of(member("1.jpg", "x") + member("1.cls", " \n")),
              "expected a label, got nothing");
  EXPECT_SAYS(problem_of(member("1.jpg", "x") + member("1.cls", "3") + member("2.jpg", "x") +
                         member("2.cls", "cat")),
              "expected numbers or class names throughout");
  EXPECT_SAYS(problem_of(member("1.jpg", "x") + member("1.cls", "99999999")),
              "label 99999999, expected 0 .. 999999");
  EXPECT_SAYS(problem_of(member("n01.tar", "x")), "holds no images");
}

TEST_F(TarSource, PatternsFoldersAndSplitsFindTheArchives) {
  for (int i = 0; i < 3; ++i) {
    write_file_atomic(
        root_.path() / fmt::format("train-{:03}.tar", i),
        member(fmt::format("{}.jpg", i), "x") + member(fmt::format("{}.cls", i), "0") + kEnd);
  }
  write_file_atomic(root_.path() / "val.tar", member("9.jpg", "x") + member("9.cls", "0") + kEnd);
  EXPECT_EQ(open_images(root_.path() / "train-{000..002}.tar")->size(), 3);
  EXPECT_EQ(open_images(root_.path() / "train-{001..002}.tar", "train")->original(0), "1.jpg");
  EXPECT_EQ(open_images(root_.path())->size(), 4);
  EXPECT_EQ(open_images(root_.path(), "train")->size(), 3);
  EXPECT_EQ(open_images(root_.path(), "val")->original(0), "9.jpg");
  EXPECT_EQ(open_images(root_.path() / "val.tar")->size(), 1);
  EXPECT_SAYS(message_of<Error>([&] { open_images(root_.path() / "train-{000..003}.tar"); }),
              "train-003.tar");
  EXPECT_SAYS(message_of<Error>([&] { open_images(root_.path() / "train-{a..b}.tar"); }),
              "got no numbers");
  EXPECT_SAYS(message_of<Error>([&] { open_images(root_.path() / "train-{3..1}.tar"); }),
              "got no archive");
}

TEST_F(TarSource, CompressedArchivesAreCalledThat) {
  write_file_atomic(root_.path() / "a.tar.gz", "x");
  EXPECT_SAYS(message_of<Error>([&] { open_images(root_.path() / "a.tar.gz"); }), "unpack it");
}

TEST_F(TarSource, TheFingerprintFollowsNamesSizesAndLabels) {
  const auto print = [&](const char* name, const char* content, const char* label) {
    return open(member(name, content) + member("1.cls", label))->fingerprint();
  };
  const std::string first = print("1.jpg", "x", "0");
  EXPECT_EQ(print("1.jpg", "x", "0"), first);
  EXPECT_NE(print("1.png", "x", "0"), first);
  EXPECT_NE(print("1.jpg", "xy", "0"), first);
  EXPECT_NE(print("1.jpg", "x", "1"), first);
}

}  // namespace
}  // namespace comba::datasets
