// Examples of the recall tasks: pairs of a key and a value, and questions, each a key whose value is the answer.
//
// After Arora et al., "Zoology: Measuring and improving recall in efficient language models" (arXiv 2312.04927), the task that
// figure 5 of the Comba paper (arXiv 2506.02475) measures. Every example is a pure function of (seed, epoch, index).
#pragma once

#include "classify/recall/config.h"
#include "vision/base/random.h"

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace comba::recall {

// A key at token `asked` whose value, at `pair` + 1, is `answer` (0 .. vocabulary / 2 - 1). Tokens are counted row by row.
struct Question {
  int64_t asked = 0, pair = 0, answer = 0;
};

// Multi-query associative recall. Tokens 0, 1, 2, ...: key, value, key, value, ... of all pairs; behind them each key once more, in
// every second place at most, those close to the pairs more often than others (gap_power); any other token is one at random that
// is none of the keys. Keys are 0 .. vocabulary / 2 - 1, values the others; neither comes twice among the pairs. Fewer than
// config.data.pairs pairs make a sequence that is by as much shorter; so many of them as fill `length` follow each other.
// tokens: [length].
std::vector<Question> write_sequence(const RecallConfig& config, int64_t pairs,
                                     RandomStream& random, int64_t* tokens);

// The same in two dimensions: symbols are patches with a pattern of their own, the value is the patch to the right of its key, and
// questions are anywhere, in front of their pair as often as behind it, so that one direction of a scan cannot know the answers of
// about half of them. What is no symbol is noise. pixels: [image_size, image_size].
std::vector<Question> write_picture(const RecallConfig& config, int64_t pairs, RandomStream& random,
                                    float* pixels);

// B examples of up to Q = config.questions() questions each, on the CPU.
struct Examples {
  at::Tensor input;    // [B, T] int64 tokens, or [B, 1, S, S] fp32 pixels
  at::Tensor asked;    // [B, Q] int64: the questions' tokens; 0 where there is none
  at::Tensor answers;  // [B, Q] int64; -100 where there is no question
  at::Tensor
      distance;  // [B, Q] int64: tokens from the pair's key to the question; below 0: the question comes first
};

// Training: those `indices` of an epoch. `pinned`: in memory that a GPU copies from by itself.
Examples training_examples(const RecallConfig& config, int64_t epoch,
                           const std::vector<int64_t>& indices, bool pinned);
// Evaluation: the same ones each time, none of them in any epoch of training.
Examples held_out_examples(const RecallConfig& config, const std::vector<int64_t>& indices,
                           bool pinned);

}  // namespace comba::recall
