#!/usr/bin/env python3
"""The training pipeline of comba beside torchvision's on Pillow, on the same files, in turns.

    pip install 'pillow<13' timm torchvision && python3 torchvision_loader.py COMBA [FOLDER] [--workers 2]

COMBA is the program; FOLDER holds class folders of JPEGs (default: 256 made-up pictures of 500 x 375). Prints images a
second of a DataLoader with as many workers as comba has threads: RandomResizedCrop (bicubic), flip and normalisation,
without and with RandAugment; medians of five rounds in which both take turns.
"""
import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time

import numpy as np
import torch
from PIL import Image
from timm.data import create_transform
from torchvision.datasets import ImageFolder

RAND_AUGMENT = "rand-m9-mstd0.5-inc1"


def made_up_picture(rng):
    """Waves under grain, some 80 KB as JPEG, as photographs have."""
    y, x = np.mgrid[0:375, 0:500]
    fx, fy = rng.uniform(0.01, 0.06, 2)
    wave = 128 + 60 * np.sin(fx * x + 2 * np.sin(fy * y)) + 24 * np.sin(0.4 * x + 0.3 * y)
    grain = rng.integers(-16, 16, (375, 500))
    channels = [wave + grain + 20 * c * np.sin(fy * x) for c in range(3)]
    return Image.fromarray(np.clip(np.stack(channels, -1), 0, 255).astype(np.uint8))


def write_pictures(folder, count):
    rng = np.random.default_rng(7)
    os.makedirs(f"{folder}/made_up")
    for i in range(count):
        made_up_picture(rng).save(f"{folder}/made_up/{i:04}.jpg", quality=93)


def torchvision_rate(folder, workers, augment, seconds):
    transform = create_transform(224, is_training=True, color_jitter=None, auto_augment=augment,
                                 interpolation="bicubic", re_prob=0)
    loader = torch.utils.data.DataLoader(ImageFolder(folder, transform), batch_size=64, shuffle=True,
                                         num_workers=workers, drop_last=True, persistent_workers=True)
    batches = iter(loader)
    next(batches)
    start, images = time.time(), 0
    while time.time() - start < seconds:
        try:
            images += len(next(batches)[1])
        except StopIteration:
            batches = iter(loader)
    return images / (time.time() - start)


def comba_rate(program, folder, threads, augment, seconds):
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        subprocess.run([program, "bench", "loader", "--data", folder, "--split", "", "--stage", "all", "--threads",
                        str(threads), "--augment", augment or "", "--repeats", "1", "--seconds", str(seconds), "--batch",
                        "64", "--json", out.name], check=True, capture_output=True)
        return json.load(open(out.name))["rows"][0]["images_per_second"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made_up:
        if not args.folder:
            write_pictures(made_up, 256)
        folder = args.folder or made_up
        for augment in (None, RAND_AUGMENT):
            ours, theirs = [], []
            for _ in range(args.rounds):
                theirs.append(torchvision_rate(folder, args.workers, augment, args.seconds))
                ours.append(comba_rate(args.program, folder, args.workers, augment, args.seconds))
            ours, theirs = statistics.median(ours), statistics.median(theirs)
            print(f"augment {augment}: comba {ours:.0f}, torchvision {theirs:.0f} images/s, {ours / theirs:.2f} times")


if __name__ == "__main__":
    main()
