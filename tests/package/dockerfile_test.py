#!/usr/bin/env python3
"""The Dockerfile as far as it can be checked without building it: python3 dockerfile_test.py ROOT

What it copies and runs is in the tree and not kept from the build by what Docker is to ignore, and nothing runs as root; then hadolint,
where tools/lint.sh has installed it or PATH has it. Exit code 1 if a check failed, 77 if hadolint is missing.
"""
import fnmatch
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

root = Path(sys.argv[1])
dockerfile = root / "tools/docker/Dockerfile"
failures = []


def check(holds, message):
    if not holds:
        failures.append(message)


def instructions(text):
    """(INSTRUCTION, rest) of each, lines joined, comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word.upper(), rest.strip()


def ignored(path, patterns):
    parents = [path, *map(str, Path(path).parents)]
    return any(fnmatch.fnmatch(part, pattern) for part in parents for pattern in patterns)


steps = list(instructions(dockerfile.read_text()))
patterns = [line for line in dockerfile.with_name("Dockerfile.dockerignore").read_text().split("\n") if line and not line.startswith("#")]
needed = [path for word, rest in steps if word == "COPY" and "--from" not in rest for path in rest.split()[:-1]]
needed += [path for word, rest in steps if word == "RUN" for path in re.findall(r"(?<![\w/])tools/[\w.]+", rest)]
check("tools/setup.sh" in needed and "tools/bundle.sh" in needed, "the image is not made by the project's own scripts")
for path in needed + ["CMakeLists.txt", "CMakePresets.json", "configs", "datasets/samples", "tracking/weights"]:
    check((root / path).exists(), f"{path} is not in the tree")
    check(path == "." or not ignored(path, patterns), f"{path} is kept from the build by Dockerfile.dockerignore")
    if path.endswith(".sh"):
        check(os.access(root / path, os.X_OK) or path.endswith("common.sh"), f"{path} cannot be executed")
check([rest for word, rest in steps if word == "USER"][-1:] == ["10001"], "the container does not run as user 10001")
for word, rest in steps:
    if word == "FROM":
        check(re.fullmatch(r"[\w./-]+:[\w.-]+( AS \w+)?", rest), f"FROM {rest}: expected a public image with a tag")

lint = Path(os.environ.get("COMBA_DEPS_DIR", Path.home() / ".cache/comba")) / "lint/bin/hadolint"
hadolint = shutil.which("hadolint") or (str(lint) if lint.exists() else None)
if hadolint:
    linted = subprocess.run([hadolint, "--no-color", str(dockerfile)], capture_output=True, text=True)
    check(linted.returncode == 0, linted.stdout + linted.stderr)
print("\n".join(failures))
if not failures and not hadolint:
    print("skipped: hadolint is missing (tools/lint.sh installs it); the other checks passed")
sys.exit(1 if failures else 0 if hadolint else 77)
