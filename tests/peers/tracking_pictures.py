#!/usr/bin/env python3
"""Boxes of trackers drawn on frames of a benchmark: a row of frames for every sequence.

    pip install pillow && python3 tracking_pictures.py FOLDER OUT.jpg NAME=RESULTS [NAME=RESULTS ..] [--frames 5]

FOLDER is in GOT-10k's layout with its list.txt; RESULTS as `comba eval --benchmark got10k` and opencv_trackers write them.
The true box is white, those of the trackers have the colours of their names below the pictures.
"""
import argparse
from pathlib import Path

from PIL import Image, ImageDraw

COLOURS = ["#2fe06f", "#ff5a4d", "#4da3ff", "#ffd23f"]
WIDTH, GAP = 240, 4


def boxes(path):
    lines = Path(path).read_text().splitlines()
    return [[float(x) for x in line.split(",")] for line in lines if line.strip()]


def frame(folder, n, drawn):
    """Frame n of a sequence, WIDTH px wide; drawn: (colour, box) pairs."""
    picture = Image.open(sorted(folder.glob("*.jpg"))[n]).convert("RGB")
    scale = WIDTH / picture.width
    picture = picture.resize((WIDTH, round(picture.height * scale)))
    draw = ImageDraw.Draw(picture)
    for colour, (x, y, w, h) in drawn:
        draw.rectangle([x * scale, y * scale, (x + w) * scale, (y + h) * scale], outline=colour, width=2)
    return picture


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out")
    parser.add_argument("results", nargs="+", help="NAME=FOLDER")
    parser.add_argument("--frames", type=int, default=5)
    arguments = parser.parse_args()
    trackers = [result.split("=", 1) for result in arguments.results]
    rows = []
    for name in (arguments.folder / "list.txt").read_text().split():
        sequence = arguments.folder / name
        found = [("white", boxes(sequence / "groundtruth.txt"))]
        for colour, (_, results) in zip(COLOURS, trackers):
            found.append((colour, boxes(Path(results) / name / f"{name}_001.txt")))
        last = len(found[0][1]) - 1
        numbers = [round(last * i / (arguments.frames - 1)) for i in range(arguments.frames)]
        rows.append([frame(sequence, n, [(colour, all_boxes[n]) for colour, all_boxes in found]) for n in numbers])
    heights = [max(picture.height for picture in row) for row in rows]
    size = (arguments.frames * (WIDTH + GAP) + GAP, sum(heights) + GAP * (len(rows) + 1) + 20)
    sheet = Image.new("RGB", size, "#202020")
    y = GAP
    for row, height in zip(rows, heights):
        for i, picture in enumerate(row):
            sheet.paste(picture, (GAP + i * (WIDTH + GAP), y))
        y += height + GAP
    draw, x = ImageDraw.Draw(sheet), GAP
    for colour, (name, _) in zip(["white"] + COLOURS, [("truth", None)] + trackers):
        draw.text((x, y + 2), name, fill=colour)
        x += 12 + round(draw.textlength(name))
    sheet.save(arguments.out, quality=80)


if __name__ == "__main__":
    main()
