// The scripts of `comba completion`, asked by the shells themselves.
#include "tests/tools/cli.h"

#include <cstdio>
#include <sstream>

#include <gtest/gtest.h>

namespace comba::tools {
namespace {

class Completion : public Cli {
 protected:
  void SetUp() override {
    Cli::SetUp();
    for (const std::string shell : {"bash", "zsh", "fish"}) {
      const Outcome script = run({"completion", shell});
      ASSERT_EQ(script.code, 0) << script.err;
      std::ofstream(folder_ / ("comba." + shell)) << script.out;
    }
    std::ofstream(folder_ / "weights.safetensors").close();
  }

  // The lines that a command of a shell prints in `folder_`, in words with blanks between.
  std::string words_of(const std::string& shell, const std::string& script) const {
    std::ofstream(folder_ / "ask") << script;
    const std::string command = "cd '" + folder_.string() + "' && " + shell + " ./ask 2>&1";
    std::string printed, words, word;
    FILE* const pipe = popen(command.c_str(), "r");
    for (int c = 0; (c = std::fgetc(pipe)) != EOF;) {
      printed += static_cast<char>(c);
    }
    EXPECT_EQ(pclose(pipe), 0) << printed;
    for (std::istringstream lines(printed); lines >> word;) {
      words += (words.empty() ? "" : " ") + word;
    }
    return words;
  }
  bool has(const std::string& shell) const {
    return std::system(("command -v " + shell + " >/dev/null").c_str()) == 0;
  }

  // As readline does it; `line` ends with the word to complete, "" for none begun. Files are left to readline itself.
  std::string in_bash(const std::vector<std::string>& line) const {
    std::string words;
    for (const std::string& word : line) {
      words += " '" + word + "'";
    }
    return words_of("bash", "source ./comba.bash\ncompopt() { echo \"$@\"; }\nCOMP_WORDS=(comba" +
                                words + ")\nCOMP_CWORD=" + std::to_string(line.size()) +
                                "\n$(complete -p comba | sed 's/.*-F \\([^ ]*\\).*/\\1/') 2>&1 &&"
                                " printf '%s\\n' \"${COMPREPLY[@]}\"\n");
  }
};

TEST_F(Completion, BashOffersCommandsAndVerbs) {
  EXPECT_EQ(in_bash({"tr"}), "train track");
  EXPECT_EQ(in_bash({"data", ""}), "pack check stats show synth");
  EXPECT_EQ(in_bash({"data", "synth", "g"}), "got10k");
}

TEST_F(Completion, BashOffersTheOptionsOfTheCommandAtHand) {
  EXPECT_EQ(in_bash({"train", "configs/x.toml", "--re"}), "--resume");
  EXPECT_EQ(in_bash({"eval", "--re"}), "");
  EXPECT_EQ(in_bash({"data", "pack", "--short-side", "256", "--on"}), "--on-bad");
}

TEST_F(Completion, BashOffersChoicesFilesOrNothingAsTheValueAsks) {
  EXPECT_EQ(in_bash({"eval", "run", "--weights", ""}), "auto raw ema");
  EXPECT_EQ(in_bash({"export", "run", "--dtype", "f"}), "float32 float16");
  EXPECT_EQ(in_bash({"completion", ""}), "bash zsh fish");
  EXPECT_EQ(in_bash({"eval", "run", "--json", "weig"}), "-o default");
  EXPECT_EQ(in_bash({"predict", "weig"}), "-o default");
  EXPECT_EQ(in_bash({"train", "--gpus", ""}), "");
}

// A verb's name among the values is no verb.
TEST_F(Completion, BashIsNotMisledByValuesThatAreNamedLikeCommands) {
  EXPECT_EQ(in_bash({"predict", "train", "--top"}), "--topk");
}

TEST_F(Completion, ZshReadsTheSameTables) {
  if (!has("zsh")) {
    GTEST_SKIP() << "no zsh";
  }
  const std::string head = "compdef() { :; }\nsource ./comba.zsh\n";
  EXPECT_EQ(words_of("zsh -f", head + "command=comba\n_comba_descend eval\n"
                                      "_comba_offers '' --weights\nprint -l ${=offers}\n"),
            "auto raw ema");
  EXPECT_EQ(words_of("zsh -f", head + "compadd() { print -l -- $@; }\nwords=(comba data ''); "
                                      "CURRENT=3\n_comba\n"),
            "-- pack check stats show synth");
}

TEST_F(Completion, FishOffersTheSame) {
  if (!has("fish")) {
    GTEST_SKIP() << "no fish";
  }
  const auto in_fish = [&](const std::string& line) {
    return words_of("fish --no-config",
                    "source ./comba.fish\ncomplete -C '" + line + "' | string split -f1 \\t; true");
  };
  EXPECT_EQ(in_fish("comba tr"), "track train");
  EXPECT_EQ(in_fish("comba eval run --weights "), "auto ema raw");
  EXPECT_EQ(in_fish("comba train x --resu"), "--resume");
  EXPECT_EQ(in_fish("comba predict weig"), "weights.safetensors");
}

TEST_F(Cli, CompletionOfAnotherShellIsAUsageError) {
  const Outcome outcome = run({"completion", "tcsh"});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_SAYS(outcome.err, "bash,zsh,fish");
}

}  // namespace
}  // namespace comba::tools
