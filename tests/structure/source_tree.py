"""The files of a source tree, and what they include."""
import os.path
import re
from pathlib import Path

FOLDERS = ("kernels", "vision", "datasets", "classify", "tracking", "configs", "tools", "tests")
SOURCE_ENDINGS = (".cpp", ".h", ".cu", ".cuh", ".inc", ".py", ".sh", ".cmake")
INCLUDE = re.compile(r'\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')


class SourceTree:
    """The files below the project's folders; what is built or run beside them does not count."""

    def __init__(self, root):
        self.root = Path(root).resolve()
        self.names = sorted(str(path.relative_to(self.root)) for folder in FOLDERS
                            for path in (self.root / folder).rglob("*")
                            if path.is_file() and "__pycache__" not in path.parts)
        self.lines_read = {}

    def sources(self):
        return [name for name in self.names if name.endswith(SOURCE_ENDINGS) or name.endswith("CMakeLists.txt")]

    def lines(self, name):
        if name not in self.lines_read:
            self.lines_read[name] = (self.root / name).read_text(encoding="utf-8").splitlines()
        return self.lines_read[name]

    def includes(self, name):
        """(line number, what stands between the quotes or brackets) of each #include."""
        for number, line in enumerate(self.lines(name), 1):
            if match := INCLUDE.match(line):
                yield number, match[1] or match[2]

    def own(self, name, included):
        """The file of this tree that `included` means in file `name`, or None: from the root, or beside it."""
        beside = os.path.normpath(Path(name).parent / included)
        return next((path for path in (included, beside) if (self.root / path).is_file()), None)

    def reached(self, name):
        """{file: chain of files from `name` to it} of all that `name` includes in this tree, itself too."""
        chains, waiting = {name: (name,)}, [name]
        while waiting:
            current = waiting.pop()
            for _, included in self.includes(current):
                path = self.own(current, included)
                if path and path not in chains:
                    chains[path] = chains[current] + (path,)
                    waiting.append(path)
        return chains
