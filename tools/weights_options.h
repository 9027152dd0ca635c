// The arguments of commands that read trained weights.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

namespace comba::tools {

// RUN_OR_WEIGHTS, --weights and --config.
inline void add_weights_options(CLI::App& command, std::string& path, std::string& weights,
                                std::string& config) {
  command
      .add_option(
          "RUN_OR_WEIGHTS", path,
          "run folder (its best checkpoint), checkpoint folder or file: .safetensors, or .pth of "
          "torch.save")
      ->required();
  command
      .add_option("--weights", weights,
                  "raw, ema (averaged), or auto: those with the best result in training; of a .pth "
                  "the averaged "
                  "ones if it has any")
      ->check(CLI::IsMember({"auto", "raw", "ema"}));
  command.add_option("--config", config,
                     "the model's configuration, for weights of another program (timm's tensor "
                     "names); positions are "
                     "resized to its model.image_size");
}

}  // namespace comba::tools
