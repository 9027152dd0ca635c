#!/usr/bin/env python3
"""Writes deit_tiny.safetensors: what timm's deit_tiny_patch16_224 answers for weights and images made by formula.

    pip install timm && python3 make_deit_tiny.py deit_tiny.safetensors [weights.safetensors]

The file holds `logits` [4, 1000] fp32 (computed in fp64) and, in its header, the name and shape of every
parameter in timm's order. tests/vision/deit_test.cpp makes the same weights and images from these names. With a
second path the weights themselves are written as timm saves them, 22 MB.
"""
import json
import math
import sys

import numpy as np
import timm
import torch
from safetensors.torch import save_file


def seed_of(name):
    """32-bit FNV-1a."""
    value = 2166136261
    for byte in name.encode():
        value = (value ^ byte) * 16777619 & 0xFFFFFFFF
    return value


def uniform(name, count):
    """`count` numbers in [-1, 1), a function of the name and the position alone."""
    x = np.arange(count, dtype=np.uint32) * np.uint32(2654435761) + np.uint32(seed_of(name))
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x85EBCA6B)
    x ^= x >> np.uint32(13)
    x *= np.uint32(0xC2B2AE35)
    x ^= x >> np.uint32(16)
    return x.astype(np.float64) / 2.0**31 - 1.0


def weight(name, shape):
    values = uniform(name, math.prod(shape)).reshape(shape)
    if len(shape) == 1:
        centre = 1.0 if name.endswith("weight") else 0.0  # norms' weights, biases
        return torch.tensor(centre + 0.1 * values, dtype=torch.float32)
    return torch.tensor(0.08 * values, dtype=torch.float32)


def main(golden, weights=None):
    model = timm.create_model("deit_tiny_patch16_224", pretrained=False).eval()
    shapes = {name: list(parameter.shape) for name, parameter in model.state_dict().items()}
    model.load_state_dict({name: weight(name, shape) for name, shape in shapes.items()})
    if weights:
        save_file(model.state_dict(), weights)
    images = torch.tensor(2.0 * uniform("images", 4 * 3 * 224 * 224).reshape(4, 3, 224, 224), dtype=torch.float32)
    with torch.no_grad():
        logits = model.double()(images.double())
    save_file({"logits": logits.float().contiguous()}, golden,
              {"timm": timm.__version__, "parameters": json.dumps(list(shapes.items()))})
    print(f"logits: standard deviation {logits.std():.3f}, largest {logits.abs().max():.3f}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])
