#!/usr/bin/env python3
"""Writes augment.golden: what Pillow and timm make of pictures given by a formula.

    pip install 'pillow<13' timm torchvision && python3 make_augment.py augment.golden

Records follow each other: a line of text, "NAME ARGUMENTS HEIGHT WIDTH", then HEIGHT x WIDTH x 3 bytes. Written with
Pillow 12.3.0, timm 1.0.31, torchvision 0.26.0. (Pillow 13 resizes some shapes
vertically first, which differs by up to two levels, and refuses to posterize to no bits.) tests/datasets/augment_test.cpp makes the same pictures.
"""
import sys

import numpy as np
from PIL import Image, ImageFilter
from timm.data import auto_augment as aa

FILL = (124, 116, 104)  # round(255 * ImageNet's mean)
MAGNITUDES = (0, 3, 7.5, 9, 10)
OPS = {  # ours: timm's
    "auto_contrast": "AutoContrast", "equalize": "Equalize", "invert": "Invert", "rotate": "Rotate",
    "posterize": "PosterizeIncreasing", "solarize": "SolarizeIncreasing", "solarize_add": "SolarizeAdd",
    "color": "ColorIncreasing", "contrast": "ContrastIncreasing", "brightness": "BrightnessIncreasing",
    "sharpness": "SharpnessIncreasing", "shear_x": "ShearX", "shear_y": "ShearY",
    "translate_x": "TranslateXRel", "translate_y": "TranslateYRel",
}


def picture(height, width, low=0, high=255):
    """Waves of three frequencies and some noise, between low and high."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    hashed = (x * 73 + y * 151 + c * 37 + x * y * 11) % 64
    wave = (x * (5 + 2 * c) + y * (9 - 3 * c)) % 256
    fold = np.where(wave < 128, 2 * wave, 511 - 2 * wave)
    value = (3 * fold + hashed) * (high - low) // (3 * 255 + 63) + low
    return Image.fromarray(value.astype(np.uint8))


def write(out, words, image):
    pixels = np.asarray(image.convert("RGB"))
    out.write((" ".join(str(w) for w in words) + f" {pixels.shape[0]} {pixels.shape[1]}\n").encode())
    out.write(pixels.tobytes())


class Sign:
    """Stands in for timm's random module: the level's sign is as asked."""

    def __init__(self, negative):
        self.negative = negative

    def random(self):
        return 1.0 if self.negative else 0.0

    def __getattr__(self, name):
        raise AssertionError(f"a draw that was not expected: random.{name}")


def write_operations(out):
    for ours, name in OPS.items():
        for magnitude in MAGNITUDES:
            for negative in (0, 1):
                aa.random = Sign(negative)
                op = aa.AugmentOp(name, prob=1.0, magnitude=magnitude,
                                  hparams={"img_mean": FILL, "interpolation": Image.BICUBIC})
                if negative and not aa.LEVEL_TO_ARG[name]:
                    continue
                if ours == "posterize" and magnitude == 10:
                    continue  # no bits kept: black in Pillow 12, an error in later ones
                write(out, ["op", ours, magnitude, negative], op(picture(21, 26, 20, 231)))


def write_edge_cases(out):
    flat = Image.new("RGB", (9, 7), (50, 200, 0))
    aa.random = Sign(0)
    for ours in ("auto_contrast", "equalize", "contrast", "sharpness"):
        op = aa.AugmentOp(OPS[ours], prob=1.0, magnitude=9, hparams={"img_mean": FILL})
        write(out, ["flat", ours, 9, 0], op(flat))
    for ours in ("rotate", "shear_x", "translate_y", "sharpness"):
        op = aa.AugmentOp(OPS[ours], prob=1.0, magnitude=9,
                          hparams={"img_mean": FILL, "interpolation": Image.BICUBIC})
        write(out, ["tiny", ours, 9, 0], op(picture(2, 1)))


def write_three_augment(out):
    image = picture(31, 26)
    write(out, ["grayscale", 0], image.convert("L").convert("RGB"))
    for threshold in (128,):
        write(out, ["solarize", threshold], aa.solarize(image, threshold))
    for radius in (0.1, 0.5, 1.0, 1.37, 2.0):
        write(out, ["blur", radius], image.filter(ImageFilter.GaussianBlur(radius)))
    for factor in (0.7, 0.95, 1.0, 1.3):
        for name in ("brightness", "contrast", "color"):
            write(out, [name, factor], getattr(aa, name)(image, factor))


def write_resizes(out):
    for height, width in ((23, 37), (64, 48), (7, 5), (1, 3)):
        image = picture(height, width)
        for to_height, to_width in ((16, 16), (23, 37), (31, 19), (50, 61), (1, 1)):
            for name, kind in (("bicubic", Image.BICUBIC), ("bilinear", Image.BILINEAR)):
                write(out, [name, height, width], image.resize((to_width, to_height), kind))


def write_centre_crops(out):
    """Short side to size / crop (rounded down, as torchvision does), then the centre."""
    from torchvision.transforms import functional as F
    from torchvision.transforms import InterpolationMode
    for height, width in ((45, 60), (61, 44), (33, 33)):
        for size, share in ((28, 0.875), (28, 0.9), (28, 1.0)):
            image = F.resize(picture(height, width), int(size / share), InterpolationMode.BICUBIC)
            write(out, ["centre", height, width, share], F.center_crop(image, size))


def write_simple_crops(out):
    """Short side to the size and a border; DeiT III's simple crop is any square of it (deit 7e160fe, augment.py)."""
    from torchvision.transforms import functional as F
    from torchvision.transforms import InterpolationMode
    for height, width in ((45, 60), (61, 44), (3, 3)):
        image = F.resize(picture(height, width), 28, InterpolationMode.BICUBIC)
        write(out, ["simple", height, width], F.pad(image, 4, padding_mode="reflect"))


def main():
    with open(sys.argv[1], "wb") as out:
        write_operations(out)
        write_edge_cases(out)
        write_three_augment(out)
        write_resizes(out)
        write_centre_crops(out)
        write_simple_crops(out)


main()
