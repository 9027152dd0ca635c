#include "classify/recall/config.h"

#include "vision/base/config_reader.h"
#include "vision/base/error.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace comba::recall {
namespace {

void require(bool holds, const std::string& message) {
  if (!holds) {
    throw UsageError("configuration: " + message);
  }
}

// Pairs lie side by side in a row of a picture. However they fall, a row with a place for one more has one in every three cells.
int64_t room_for_pairs(int64_t side) { return side * ((side + 1) / 3); }

void check_room(const RecallConfig& config) {
  const int64_t most = config.questions(), tokens = config.tokens();
  if (config.data.kind == "sequence") {  // questions stand in every second place
    require(4 * most <= tokens, fmt::format("data.pairs = {}: {} pairs and their questions need {} "
                                            "tokens; data.length has {}",
                                            most, most, 4 * most, tokens));
    return;
  }
  const int64_t side = config.model.image_size / config.model.patch_size;
  const int64_t room = std::min(room_for_pairs(side), tokens / 3);
  require(most <= room,
          fmt::format("data.pairs and data.train_pairs: {} pairs and their questions do not surely "
                      "fit into the {} x {} patches of model.image_size; expected at most {}",
                      most, side, side, room));
}

void check(const RecallConfig& config) {
  vision::validate(config.model);
  const DataOptions& data = config.data;
  require(data.vocabulary % 2 == 0,
          fmt::format("data.vocabulary = {}: expected an even number", data.vocabulary));
  require(
      config.questions() <= data.vocabulary / 2,
      fmt::format("data.pairs and data.train_pairs: {} pairs need as many keys; data.vocabulary "
                  "= {} has {}",
                  config.questions(), data.vocabulary, data.vocabulary / 2));
  require(std::ranges::all_of(data.train_pairs, [](int64_t pairs) { return pairs > 0; }),
          fmt::format("data.train_pairs = [{}]: expected numbers above 0",
                      fmt::join(data.train_pairs, ", ")));
  for (const int64_t pairs : data.train_pairs) {
    require(data.kind == "picture" || data.pairs % pairs == 0,
            fmt::format("data.train_pairs: {} is no divisor of data.pairs = {}; a sequence of "
                        "training consists of equal parts",
                        pairs, data.pairs));
  }
  check_room(config);
  require(!config.model.has_class_token(),
          fmt::format("model.pool = \"{}\": questions are answered where they stand; expected "
                      "\"mean\", which adds no token",
                      config.model.pool));
  if (data.kind == "picture") {
    require(config.model.in_channels == 1,
            fmt::format("model.in_channels = {}: the pictures have 1", config.model.in_channels));
    return;
  }
  for (int64_t block = 0; block < config.model.depth; ++block) {
    require(config.model.mixer_of(block) != "agent",
            "model.mixer = \"agent\" pools a picture's patches; a sequence has none: set data.kind "
            "= \"picture\" or take another mixer");
  }
}

}  // namespace

int64_t RecallConfig::questions() const {
  int64_t most = data.pairs;
  for (const int64_t pairs : data.train_pairs) {
    most = std::max(most, pairs);
  }
  return most;
}

void declare(ConfigTable& table, RecallConfig& config) {
  DataOptions& data = config.data;
  table.add_choice("task", &config.task, {"recall"}, "what is trained");
  table.add("seed", &config.seed, "of initialisation and examples", {0, 9007199254740992.0});
  vision::declare(table, config.model);
  table.add("model.token_conv", &config.token_conv,
            "sequence: taps of a causal convolution of the embeddings that is added to them; 0: "
            "none",
            {0, 64});
  table.add_choice(
      "data.kind", &data.kind, {"sequence", "picture"},
      "sequence: multi-query associative recall (MQAR); picture: the same with patches");
  table.add("data.length", &data.length, "sequence: tokens", {3, 1 << 20});
  table.add("data.vocabulary", &data.vocabulary, "symbols: one half keys, the other values",
            {2, 1 << 20});
  table.add("data.pairs", &data.pairs, "pairs of key and value in what is evaluated", {1, 1 << 18});
  table.add(
      "data.train_pairs", &data.train_pairs,
      "their number in an example of training is drawn from these; empty: data.pairs. Few pairs "
      "make a short sequence, and as many as fill the length follow each other",
      {1, 1 << 18});
  table.add("data.gap_power", &data.gap_power,
            "sequence: a in the power law a x^(a-1) of how far questions lie behind the pairs; 1: "
            "anywhere",
            {1e-6, 100});
  table.add("data.noise", &data.noise,
            "picture: standard deviation of the noise on every pixel; a symbol's pixels have 1",
            {0, 100});
  table.add("data.samples", &data.samples, "examples of an epoch", {1, 1e12});
  table.add("data.eval_samples", &data.eval_samples, "examples of an evaluation", {1, 1e9});
  table.add("data.threads", &data.threads, "threads that make examples; 0: one per core",
            {0, 1024});
  vision::declare(table, config.train);
}

std::string read_recall_config_text(std::string_view text, const std::string& origin,
                                    const std::vector<std::string>& assignments,
                                    RecallConfig& config) {
  const ConfigTable table = read_keys(text, origin, assignments, config);
  check(config);
  return table.dump();
}

std::string read_recall_config(const std::filesystem::path& path,
                               const std::vector<std::string>& assignments, RecallConfig& config) {
  return read_recall_config_text(read_config_file(path), path.string(), assignments, config);
}

std::string dump(const RecallConfig& config) { return dump_keys(config); }

}  // namespace comba::recall
