"""Trains a small Comba network on the handwritten digits of datasets/samples: half a minute on two CPU cores, or on a GPU in
bf16. Its weights are those of `comba` too: see README.md."""
import argparse
import struct
import time
import zlib
from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from comba_block import Block

SAMPLES = Path(__file__).resolve().parents[2] / "datasets" / "samples" / "mnist5k"


class Classifier(nn.Module):
    """Normalised images [B, channels, image_size, image_size] -> logits [B, classes]; the defaults are Comba-T."""

    def __init__(self, classes=1000, image_size=224, patch_size=16, channels=3, width=192, depth=12, head_dim=64,
                 mlp_ratio=4.0, positions=False):
        super().__init__()
        self.patch_embed = nn.Sequential(OrderedDict(proj=nn.Conv2d(channels, width, patch_size, patch_size)))
        tokens = (image_size // patch_size) ** 2
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, tokens, width)) if positions else None
        self.blocks = nn.ModuleList(Block(width, head_dim, mlp_ratio) for _ in range(depth))
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.head = nn.Linear(width, classes)

    def forward(self, images):
        x = self.patch_embed(images).flatten(2).transpose(1, 2)
        x = x if self.pos_embed is None else x + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


def digits_classifier():
    """The network of configs/mnist5k.toml."""
    return Classifier(10, image_size=28, patch_size=7, channels=1, width=96, depth=4, head_dim=32, mlp_ratio=2.0,
                      positions=True)


def grey_png(data):
    """A PNG of 8-bit grey in one chunk, without filters: as tools/make_mnist5k.py writes them -> [height, width] uint8."""
    width, height, length = *struct.unpack_from(">II", data, 16), struct.unpack_from(">I", data, 33)[0]
    rows = bytearray(zlib.decompress(data[41:41 + length]))
    return torch.frombuffer(rows, dtype=torch.uint8).view(height, 1 + width)[:, 1:]


def normalised(pixels):
    return (pixels.float() / 255 - 0.1307) / 0.3081


def read_digits(split):
    """-> normalised images [N, 1, 28, 28], labels [N]; datasets/pack.h has the format of packs."""
    index, images = (SAMPLES / f"{split}.pack").read_bytes(), (SAMPLES / f"{split}.pack.000").read_bytes()
    count = struct.unpack_from("<Q", index, 16)[0]
    records = list(struct.iter_unpack("<QIIiIHHHH", index[64:64 + 32 * count]))
    pixels = torch.stack([grey_png(images[record[0]:record[0] + record[1]]) for record in records])
    return normalised(pixels[:, None]), torch.tensor([record[3] for record in records])


def train(model, images, labels, steps):
    """AdamW on random batches of 64; -> the loss of every step."""
    device = images.device.type
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    losses, begin = [], time.perf_counter()
    for step in range(1, steps + 1):
        batch = torch.randint(len(images), (64,), device=device)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = F.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 20 == 0:
            print(f"step {step:>4}  loss {sum(losses[-20:]) / 20:.3f}  {time.perf_counter() - begin:.1f} s", flush=True)
    return losses


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--compile", action="store_true", help="through torch.compile")
    options = parser.parse_args()
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images, labels, test_images, test_labels = (x.to(device) for split in ("train", "test") for x in read_digits(split))
    model = digits_classifier().to(device)
    train(torch.compile(model, fullgraph=True) if options.compile else model, images, labels, options.steps)
    with torch.no_grad():
        right = (model(test_images).argmax(1) == test_labels).float().mean().item()
    print(f"{100 * right:.1f} % of {len(test_labels)} test digits on {device}")


if __name__ == "__main__":
    main()
