"""Rules of the house that can be read off the text of one file and of what it includes."""
import re
from dataclasses import dataclass
from typing import Callable

MOST_LINES = 700
TORCH = r"(torch|ATen|c10|caffe2)/"


@dataclass
class IncludeRule:
    """Files chosen by `applies` may not include what `forbidden` matches, neither directly nor through our headers."""
    applies: Callable[[str], bool]
    forbidden: str
    why: str


INCLUDE_RULES = (
    IncludeRule(lambda name: name.endswith((".cu", ".cuh")), TORCH, "device code is free of torch"),
    IncludeRule(lambda name: name.startswith(("datasets/", "vision/base/")), TORCH,
                "this folder is built without LibTorch"),
    IncludeRule(lambda name: name.startswith("vision/base/"), r"opencv2/", "this folder needs no OpenCV"),
    IncludeRule(lambda name: not name.startswith(("tools/", "tests/")), r"CLI/", "arguments are read in tools/ alone"),
    IncludeRule(lambda name: True, r"torch/(torch|all|script)\.h$",
                "it costs half a minute a file; include what is used"),
    IncludeRule(lambda name: True, r"opencv2/opencv\.hpp$", "include the modules that are used"),
)


def check_include_rules(tree):
    findings = []
    for name in tree.sources():
        rules = [rule for rule in INCLUDE_RULES if rule.applies(name)]
        for reached, chain in tree.reached(name).items():
            for number, included in tree.includes(reached):
                findings += [f"{reached}:{number}: includes {included} (by {' -> '.join(chain)}), but {rule.why}"
                             for rule in rules if re.match(rule.forbidden, included)]
    return findings


def check_lengths(tree):
    return [f"{name}: {len(tree.lines(name))} lines, more than {MOST_LINES}; split it by purpose"
            for name in tree.sources() if len(tree.lines(name)) > MOST_LINES]


def check_headers(tree):
    return [f"{name}: has no #pragma once" for name in tree.sources()
            if name.endswith((".h", ".cuh")) and "#pragma once" not in tree.lines(name)]


def check_configs(tree):
    return [f"{name}: configs/ holds TOML files and their pictures alone" for name in tree.names
            if name.startswith("configs/") and not name.endswith((".toml", ".svg"))]
