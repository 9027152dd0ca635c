#include "classify/recall/examples.h"

#include "vision/base/error.h"
#include "vision/base/parallel.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <unordered_set>
#include <utility>

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

namespace comba::recall {
namespace {

constexpr int64_t kNoAnswer = -100;  // what cross entropy leaves out

// `count` different numbers below `bound`, in the order of the draws.
std::vector<int64_t> draw_distinct(int64_t count, int64_t bound, RandomStream& random) {
  std::vector<int64_t> drawn;
  std::unordered_set<int64_t> known;
  while (static_cast<int64_t>(drawn.size()) < count) {
    // Floyd's way: the upper bound grows with every draw, so that each needs one number at most two tries.
    const int64_t upper = bound - count + static_cast<int64_t>(drawn.size());
    const int64_t number = random.below(upper + 1);
    drawn.push_back(known.insert(number).second ? number : upper);
    known.insert(drawn.back());
  }
  for (size_t i = drawn.size(); i > 1; --i) {
    std::swap(drawn[i - 1], drawn[static_cast<size_t>(random.below(static_cast<int64_t>(i)))]);
  }
  return drawn;
}

// `count` different x below `bound` of weights (x + 1)^(a - 1), by the smallest of exponential variables (Efraimidis and Spirakis).
std::vector<int64_t> draw_gaps(int64_t count, int64_t bound, double a, RandomStream& random) {
  std::vector<std::pair<double, int64_t>> order;
  for (int64_t x = 0; x < bound; ++x) {
    const double weight = std::pow(static_cast<double>(x + 1), a - 1);
    order.emplace_back(-std::log1p(-random.uniform()) / weight, x);
  }
  std::ranges::partial_sort(order, order.begin() + count);
  std::vector<int64_t> gaps;
  for (int64_t i = 0; i < count; ++i) {
    gaps.push_back(order[static_cast<size_t>(i)].second);
  }
  return gaps;
}

// What a symbol's patch looks like, the same in every run: [patch_size^2], mean 0, deviation 1.
std::vector<float> pattern_of(int64_t symbol, int64_t patch_size) {
  RandomStream random(0, 0, static_cast<uint64_t>(symbol), RandomPurpose::initialise);
  std::vector<float> pattern;
  for (int64_t i = 0; i < patch_size * patch_size; ++i) {
    pattern.push_back(static_cast<float>(random.normal()));
  }
  return pattern;
}

std::vector<int64_t> shuffled(int64_t count, RandomStream& random) {
  return draw_distinct(count, count, random);
}

// Where things lie in a picture of side x side patches: the first cells of pairs, and cells of questions.
struct Places {
  std::vector<int64_t> pairs, questions;
};

Places draw_places(int64_t side, int64_t pairs, RandomStream& random) {
  std::vector<bool> taken(static_cast<size_t>(side * side), false);
  const auto at = [&](int64_t cell) { return taken[static_cast<size_t>(cell)]; };
  Places places;
  for (const int64_t cell : shuffled(side * side, random)) {
    if (static_cast<int64_t>(places.pairs.size()) == pairs) {
      break;
    }
    if (cell % side + 1 < side && !at(cell) && !at(cell + 1)) {
      taken[static_cast<size_t>(cell)] = taken[static_cast<size_t>(cell + 1)] = true;
      places.pairs.push_back(cell);
    }
  }
  for (const int64_t cell : shuffled(side * side, random)) {
    if (static_cast<int64_t>(places.questions.size()) == pairs) {
      break;
    }
    if (!at(cell)) {
      places.questions.push_back(cell);
    }
  }
  return places;
}

int64_t draw_pairs(const DataOptions& data, RandomStream& random) {
  return data.train_pairs.empty() ? data.pairs
                                  : data.train_pairs[static_cast<size_t>(random.below(
                                        static_cast<int64_t>(data.train_pairs.size())))];
}

// Fills the places behind `count` questions with tokens that are not asked: gradients of a token that is there many times would be
// added up one after another.
void fill_asked(int64_t count, int64_t questions, int64_t* asked) {
  const std::unordered_set<int64_t> known(asked, asked + count);
  int64_t token = 0;
  for (int64_t q = count; q < questions; ++q, ++token) {
    while (known.contains(token)) {
      ++token;
    }
    asked[q] = token;
  }
}

Examples make(const RecallConfig& config, uint64_t epoch, const std::vector<int64_t>& indices,
              bool pinned, bool training) {
  const auto count = static_cast<int64_t>(indices.size());
  const int64_t questions = config.questions(), side = config.model.image_size;
  const bool picture = config.data.kind == "picture";
  const auto of = [&](at::ScalarType type) {
    return at::TensorOptions().dtype(type).pinned_memory(pinned);
  };
  Examples examples{
      .input = picture ? at::empty({count, 1, side, side}, of(at::kFloat))
                       : at::empty({count, config.data.length}, of(at::kLong)),
      .asked = at::empty({count, questions}, of(at::kLong)),
      .answers = at::full({count, questions}, kNoAnswer, of(at::kLong)),
      .distance = at::zeros({count, questions}, at::kLong),
  };
  const int64_t size = examples.input.stride(0);
  int64_t* const asked = examples.asked.mutable_data_ptr<int64_t>();
  int64_t* const answers = examples.answers.mutable_data_ptr<int64_t>();
  int64_t* const distance = examples.distance.mutable_data_ptr<int64_t>();
  void* const input = examples.input.mutable_data_ptr();
  parallel_for(indices.size(), static_cast<int>(config.data.threads), [&](size_t n) {
    RandomStream random(static_cast<uint64_t>(config.seed), epoch,
                        static_cast<uint64_t>(indices[n]), RandomPurpose::synthesise);
    const int64_t pairs = training ? draw_pairs(config.data, random) : config.data.pairs;
    const auto row = static_cast<int64_t>(n);
    const std::vector<Question> written =
        picture ? write_picture(config, pairs, random, static_cast<float*>(input) + row * size)
                : write_sequence(config, pairs, random, static_cast<int64_t*>(input) + row * size);
    for (size_t q = 0; q < written.size(); ++q) {
      const int64_t to = row * questions + static_cast<int64_t>(q);
      asked[to] = written[q].asked;
      answers[to] = written[q].answer;
      distance[to] = written[q].asked - written[q].pair;
    }
    fill_asked(static_cast<int64_t>(written.size()), questions, asked + row * questions);
  });
  return examples;
}

// Tokens first .. end - 1 of a sequence.
struct Part {
  int64_t* tokens;
  int64_t first, end;
};

void write_part(const DataOptions& data, int64_t pairs, RandomStream& random, const Part& part,
                std::vector<Question>& questions) {
  const int64_t half = data.vocabulary / 2, behind = part.first + 2 * pairs;
  const std::vector<int64_t> keys = draw_distinct(pairs, half, random);
  const std::vector<int64_t> values = draw_distinct(pairs, half, random);
  const std::vector<int64_t> gaps =
      draw_gaps(pairs, (part.end - behind) / 2, data.gap_power, random);
  const std::unordered_set<int64_t> known(keys.begin(), keys.end());
  for (int64_t t = behind; t < part.end; ++t) {
    do {
      part.tokens[t] = random.below(2 * half);
    } while (known.contains(part.tokens[t]));
  }
  for (size_t i = 0; i < keys.size(); ++i) {
    const int64_t pair = part.first + 2 * static_cast<int64_t>(i), asked = behind + 2 * gaps[i];
    part.tokens[pair] = part.tokens[asked] = keys[i];
    part.tokens[pair + 1] = half + values[i];
    questions.push_back({asked, pair, values[i]});
  }
}

}  // namespace

std::vector<Question> write_sequence(const RecallConfig& config, int64_t pairs,
                                     RandomStream& random, int64_t* tokens) {
  const int64_t parts = config.data.pairs / pairs, length = config.data.length / parts;
  std::vector<Question> questions;
  for (int64_t part = 0; part < parts; ++part) {
    // The last one takes what is left of the tokens.
    const int64_t first = part * length,
                  end = part + 1 < parts ? first + length : config.data.length;
    write_part(config.data, pairs, random, {tokens, first, end}, questions);
  }
  return questions;
}

std::vector<Question> write_picture(const RecallConfig& config, int64_t pairs, RandomStream& random,
                                    float* pixels) {
  const int64_t patch = config.model.patch_size, size = config.model.image_size,
                side = size / patch, half = config.data.vocabulary / 2;
  const std::vector<int64_t> keys = draw_distinct(pairs, half, random);
  const std::vector<int64_t> values = draw_distinct(pairs, half, random);
  const Places places = draw_places(side, pairs, random);
  COMBA_CHECK(static_cast<int64_t>(places.pairs.size()) == pairs &&
                  static_cast<int64_t>(places.questions.size()) == pairs,
              "making a picture of {} x {} patches: found room for {} pairs and {} questions, "
              "expected {} of either",
              side, side, places.pairs.size(), places.questions.size(), pairs);
  for (int64_t i = 0; i < size * size; ++i) {
    pixels[i] = static_cast<float>(config.data.noise * random.normal());
  }
  const auto draw = [&](int64_t symbol, int64_t cell) {
    const std::vector<float> pattern = pattern_of(symbol, patch);
    for (int64_t i = 0; i < patch * patch; ++i) {
      const int64_t y = cell / side * patch + i / patch, x = cell % side * patch + i % patch;
      pixels[y * size + x] += pattern[static_cast<size_t>(i)];
    }
  };
  std::vector<Question> questions;
  for (size_t i = 0; i < keys.size(); ++i) {
    draw(keys[i], places.pairs[i]);
    draw(half + values[i], places.pairs[i] + 1);
    draw(keys[i], places.questions[i]);
    questions.push_back({places.questions[i], places.pairs[i], values[i]});
  }
  return questions;
}

Examples training_examples(const RecallConfig& config, int64_t epoch,
                           const std::vector<int64_t>& indices, bool pinned) {
  return make(config, static_cast<uint64_t>(epoch) + 1, indices, pinned, /*training=*/true);
}

Examples held_out_examples(const RecallConfig& config, const std::vector<int64_t>& indices,
                           bool pinned) {
  return make(config, 0, indices, pinned, /*training=*/false);
}

}  // namespace comba::recall
