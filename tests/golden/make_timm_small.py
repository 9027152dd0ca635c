#!/usr/bin/env python3
"""Writes timm_small.safetensors: small vision transformers of timm, their weights and what they answer, at two image sizes.

    pip install timm && python3 make_timm_small.py timm_small.safetensors

For each KIND: `KIND/weights/NAME` as timm saves them for images of 16 px, `KIND/logits_16`, `KIND/logits_24` for `images_16`,
`images_24` [2, 3, S, S]; those of 24 px by timm's own resizing of the positions (checkpoint_filter_fn). KIND is `deit`, or
`deit3`: LayerScale, and no position of the class token. `deit/grey_logits` are for `images_16`'s first channel with weights
that timm made for one channel. The header has the names and shapes of deit_tiny_distilled_patch16_224.
"""
import json
import sys

import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from timm.models import adapt_input_conv

KINDS = {"deit": {}, "deit3": {"init_values": 0.1, "no_embed_class": True}}


def make(size, options, channels=3):
    return VisionTransformer(img_size=size, patch_size=4, in_chans=channels, embed_dim=16, depth=2, num_heads=1,
                             num_classes=5, **options).double().eval()


def randomise(model):
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, std=0.3)
        if "norm" in name and name.endswith("weight"):
            parameter.data += 1


@torch.no_grad()
def main(path):
    torch.manual_seed(1)
    tensors = {f"images_{size}": torch.randn(2, 3, size, size).float() for size in (16, 24)}
    for kind, options in KINDS.items():
        model = make(16, options)
        randomise(model)
        model.float().double()  # what the file holds
        weights = {name: value.float().contiguous() for name, value in model.state_dict().items()}
        tensors.update({f"{kind}/weights/{name}": value for name, value in weights.items()})
        larger = make(24, options)
        larger.load_state_dict(checkpoint_filter_fn(dict(weights), larger))
        tensors[f"{kind}/logits_16"] = model(tensors["images_16"].double()).float()
        tensors[f"{kind}/logits_24"] = larger(tensors["images_24"].double()).float()
        if kind == "deit":
            grey = make(16, options, channels=1)
            weights["patch_embed.proj.weight"] = adapt_input_conv(1, weights["patch_embed.proj.weight"])
            grey.load_state_dict(weights)
            tensors["deit/grey_logits"] = grey(tensors["images_16"][:, :1].double()).float()
    distilled = timm.create_model("deit_tiny_distilled_patch16_224").state_dict()
    keys = [[name, list(value.shape)] for name, value in distilled.items()]
    save_file(tensors, path, {"timm": timm.__version__, "deit_tiny_distilled_patch16_224": json.dumps(keys)})


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
