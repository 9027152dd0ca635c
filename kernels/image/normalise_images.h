// Augmented images -> a network's input: normalised, then erased at random places, then mixed with each other, in one pass.
//
//   n[b, c, y, x] = pixels[b, y, x, c] scale[c] + shift[c]     every operation rounded to fp32
//   e[b, c, y, x] = what fills the last of the image's boxes that holds (y, x); n outside of all
//   out           = w e[b] + (1 - w) e[partner]                w = share; with a cut box 0 inside of it and 1 outside
//
// What fills a box is the entry of `noise` at the upper 12 of 32 random bits: number (c size + y) size + x of the image's
// stream (mode "pixel"), or number n channels + c for its n-th box ("colour"); or 0 ("const"). The stream is Philox4x32-10's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <ATen/core/Tensor.h>

namespace comba::kernels::image {

struct NormaliseInputs {
  at::Tensor pixels;        // [B, S, S, C] uint8
  at::Tensor scale, shift;  // [C] fp32, there too
  // Erasing, all three or none; on the CPU. Of a box y, x, height and width, behind an image's last box empty ones; of a
  // stream Philox's key, then its counter, whose first word counts blocks.
  at::Tensor boxes;    // [B, N, 4] int64
  at::Tensor streams;  // [B, 6] int64
  at::Tensor noise;    // [4096] fp32
  std::string mode = "pixel";
  // [B, 6] fp64 on the CPU: partner, share, y, x, height and width of the cut box. Undefined: nothing is mixed.
  at::Tensor mixes;
  at::ScalarType dtype = at::kFloat;  // fp32, bf16 or fp16
};

// Returns [B, C, S, S] where the pixels are. Throws c10::Error naming the argument, what was expected and what was found.
at::Tensor normalise_images(const NormaliseInputs& inputs);

}  // namespace comba::kernels::image
