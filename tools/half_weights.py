#!/usr/bin/env python3
"""half_weights.py IN.safetensors OUT.safetensors: the same weights with every matrix in fp16, for shipping.

Vectors (norms, biases, the recurrence's own parameters) stay as they are; the header's metadata too. comba reads either.
"""
import json
import struct
import sys

import numpy as np


def read(path):
    data = open(path, "rb").read()
    size = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def main(source, target):
    header, data = read(source)
    out = {"__metadata__": header.pop("__metadata__", {})}
    parts, at = [], 0
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        raw, dtype = data[begin:end], entry["dtype"]
        if dtype == "F32" and len(entry["shape"]) > 1:
            values = np.frombuffer(raw, "<f4")
            if np.abs(values).max(initial=0) > 65504:
                sys.exit(f"{source}: {name} has values beyond fp16")
            raw, dtype = values.astype("<f2").tobytes(), "F16"
        out[name] = {"dtype": dtype, "shape": entry["shape"], "data_offsets": [at, at + len(raw)]}
        parts.append(raw)
        at += len(raw)
    text = json.dumps(out, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(target, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(parts))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
