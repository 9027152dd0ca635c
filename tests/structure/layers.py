"""Which folder may stand on which: in #include lines and among the link libraries of CMake's targets."""

# One table for both; CONTRIBUTING.md draws it. A folder may always use itself.
STANDS_ON = {
    "vision/base": (),
    "kernels": (),
    "datasets": ("vision/base",),
    "vision": ("vision/base", "kernels"),
    "classify": ("vision/base", "kernels", "vision", "datasets"),
    "tracking": ("vision/base", "kernels", "vision", "datasets"),
    "tools": ("vision/base", "kernels", "vision", "datasets", "classify", "tracking"),
    "tests": ("vision/base", "kernels", "vision", "datasets", "classify", "tracking", "tools"),
}
TORCH_TARGET = "Comba::torch"
# Folders with no torch at all, and the part of tracking/ that is built without it.
NO_TORCH_FOLDERS = ("vision/base", "datasets")
NO_TORCH_TARGETS = ("comba_tracking_base",)


def folder_of(path):
    return next((folder for folder in STANDS_ON if path == folder or path.startswith(folder + "/")), None)


def allowed(user, used):
    return used is None or user is None or used == user or used in STANDS_ON[user]


def against_the_direction(user, used):
    below = ", ".join(STANDS_ON[user]) or "nothing of ours"
    return f"{user}/ must not use {used}/ (it stands on {below}); move what both need down"


def check_includes(tree):
    findings = []
    for name in tree.sources():
        user = folder_of(name)
        for number, included in tree.includes(name):
            used = folder_of(tree.own(name, included) or included)
            if not allowed(user, used):
                findings.append(f"{name}:{number}: includes {included}, but {against_the_direction(user, used)}")
    return findings


def read_links(path):
    """{target: (folder, link libraries)} from lines `target|folder|library;library` that CMake writes."""
    targets = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            name, folder, libraries = line.rstrip("\n").split("|", 2)
            targets[name] = (folder, tuple(library for library in libraries.split(";") if library))
    return targets


def reaches_torch(name, targets, seen):
    if name == TORCH_TARGET:
        return True
    if name in seen or name not in targets:
        return False
    seen.add(name)
    return any(reaches_torch(library, targets, seen) for library in targets[name][1])


def check_links(targets):
    findings = []
    for name, (folder, libraries) in targets.items():
        user = folder_of(folder)
        for library in libraries:
            used = folder_of(targets[library][0]) if library in targets else None
            if not allowed(user, used):
                findings.append(f"target {name} links {library}, but {against_the_direction(user, used)}")
        if (user in NO_TORCH_FOLDERS or name in NO_TORCH_TARGETS) and reaches_torch(name, targets, set()):
            findings.append(f"target {name} links LibTorch; {folder}/ is built without it")
    return findings
