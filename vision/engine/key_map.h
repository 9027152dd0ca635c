// Names of tensors in weights of other programs, and ours. Ours are timm's wherever timm has the layer, so that its DeiT and ViT need
// no map; N is a block's number.
//
//   theirs                                   ours
//   timm, DeiT, DeiT III
//     blocks.N.ls1.gamma, blocks.N.gamma_1   multiplied into blocks.N.attn.proj (LayerScale), the same function
//     blocks.N.ls2.gamma, blocks.N.gamma_2   multiplied into blocks.N.mlp.fc2
//     dist_token, head_dist.*                none: a distilled model is a beginning for training alone
//   fla's Comba layers (fla/layers/comba.py, fla/models/comba at 0d927fd); a beginning for training alone: fla corrects queries before
//   they are normalised, by D sigmoid(decay) k; ours are corrected afterwards, by D k
//     [model.]layers.N.attn.*                blocks.N.mixer.*: {q,k,v,o,a,b,g}_proj, {q,k,v}_conv1d, o_norm, A_log, dt_bias, decay, D
//     [model.]layers.N.attn_norm.*           blocks.N.norm1.*
//     [model.]layers.N.mlp_norm.*            blocks.N.norm2.*
//     [model.]norm.*                         norm.*
//     {gate,up,down}_proj, embeddings        none
//   Vision Mamba, second version
//     layers.N.mixer.*                       blocks.N.mixer.*, of model.mixer = "mamba"
//     layers.N.norm.*, norm_f.*              blocks.N.norm1.*, norm.*
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace comba::vision {

// What weights are read for.
enum class WeightsUse {
  inference,  // the function that was trained: every tensor has its place
  training    // a beginning: what there is
};

// Gives the tensors our names, as above. Returns one line about each that was more than renamed. Throws Error, with `path`, for
// models that have no counterpart here.
std::vector<std::string> map_foreign_keys(std::map<std::string, at::Tensor>& tensors,
                                          WeightsUse use, const std::filesystem::path& path);

}  // namespace comba::vision
