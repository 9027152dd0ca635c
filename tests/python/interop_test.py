#!/usr/bin/env python3
"""A Comba-T goes from Python to comba and back, and classifies alike: interop_test.py FOLDER_OF_COMBA_OPS COMBA

The network of kernels/python/train_digits.py with random weights is written by Python's safetensors, read and written by
`comba export`, read again here; its logits are those of `comba predict --logits`.
"""
import pathlib
import struct
import subprocess
import sys
import tempfile
import zlib

try:
    import torch
    from safetensors.torch import load_file, save_file
except ImportError as error:
    print(f"SKIP everything: no {error.name}")
    sys.exit(77)

from checks import check, finish

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGE, COMBA = sys.argv[1:]
sys.path[:0] = [PACKAGE, str(ROOT / "kernels" / "python")]
import train_digits


def comba(*arguments):
    result = subprocess.run([COMBA, *map(str, arguments)], capture_output=True, text=True)
    assert result.returncode == 0, f"comba {arguments[0]}: {result.stderr}"


def spread_weights(model):
    """Logits far apart, with every parameter at work."""
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn_like(parameter) * parameter[0].numel() ** -0.5)
            else:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def png(pixels):
    """pixels [height, width, 3] uint8"""
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + bytes(row.flatten().tolist()) for row in pixels)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def expect_same_logits(model, make, config, pictures, inputs):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        save_file({name: x.contiguous() for name, x in model.state_dict().items()}, folder / "python.safetensors")
        comba("export", folder / "python.safetensors", "--config", config, "--output", folder / "exported")
        (exported,) = (folder / "exported").glob("*.safetensors")
        comba("predict", exported, *pictures, "--logits", folder / "logits.safetensors", "--device", "cpu")
        expected = load_file(folder / "logits.safetensors")["logits"]
        back = make()
        back.load_state_dict(load_file(exported))  # every name, no other
    with torch.no_grad():
        logits = back(inputs)
    assert expected.std() > 0.3, f"logits too close together to compare: {expected.std():.2f}"
    error = ((logits - expected).abs().max() / expected.abs().max()).item()
    assert error <= 1e-5, f"{error:.1e}"
    print(f"largest difference of logits, of the largest logit: {error:.1e}")


def expect_digits():
    files = sorted((train_digits.SAMPLES / "digits").glob("*.png"))
    inputs = torch.stack([train_digits.normalised(train_digits.grey_png(file.read_bytes()))[None] for file in files])
    model = spread_weights(train_digits.digits_classifier())
    expect_same_logits(model, train_digits.digits_classifier, ROOT / "configs" / "mnist5k.toml", files, inputs)


def expect_comba_t():
    """Two digits of the samples, enlarged to 224 px so that nothing is resized."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with tempfile.TemporaryDirectory() as folder:
        files, inputs = [], []
        for digit in (3, 8):
            grey = train_digits.grey_png((train_digits.SAMPLES / "digits" / f"{digit}.png").read_bytes())
            large = grey.repeat_interleave(8, 0).repeat_interleave(8, 1)
            pixels = torch.stack([large, 255 - large, large // 2], -1)
            files.append(pathlib.Path(folder) / f"{digit}.png")
            files[-1].write_bytes(png(pixels))
            inputs.append(((pixels / 255 - mean) / std).permute(2, 0, 1))
        config = pathlib.Path(folder) / "whole.toml"
        config.write_text((ROOT / "configs/imagenet/comba_t.toml").read_text().replace("eval_crop = 0.875", "eval_crop = 1.0"))
        model = spread_weights(train_digits.Classifier())
        assert sum(p.numel() for p in model.parameters()) == 5848456
        expect_same_logits(model, train_digits.Classifier, config, files, torch.stack(inputs))


check("the digits' network", expect_digits)
check("Comba-T", expect_comba_t)
sys.exit(finish())
