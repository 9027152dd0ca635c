#!/usr/bin/env python3
"""Writes event_file.golden: what TensorBoard's own writer makes of the scalars in event_file_test.cpp.

    pip install tensorboard && python3 make_event_file.py
"""
import pathlib
import struct

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

TIME = 1700000000.25


def record(event):
    data = event.SerializeToString()
    length = struct.pack("<Q", len(data))
    return (length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data)))


def scalars(step, values):
    summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values])
    return Event(wall_time=TIME, step=step, summary=summary)


events = [
    Event(wall_time=TIME, file_version="brain.Event:2"),
    Event(wall_time=TIME, step=300, session_log=SessionLog(status=SessionLog.START)),
    scalars(300, [("train/loss", 2.5), ("train/lr", 1e-3)]),
    scalars(70000, [("eval/top1", 97.25), ("train/loss", float("nan"))]),
]
path = pathlib.Path(__file__).with_name("event_file.golden")
path.write_bytes(b"".join(record(event) for event in events))
print(f"{path}: {path.stat().st_size} bytes")
