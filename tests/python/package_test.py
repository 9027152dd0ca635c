#!/usr/bin/env python3
"""The package comba_ops as pip installs it: python3 package_test.py FOLDER, which `cmake --install --component python` made."""
import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile

try:
    import pip  # noqa: F401
    import torch
except ImportError as error:
    print(f"SKIP everything: no {error.name} in this Python")
    sys.exit(77)

from checks import check, finish

SOURCE = pathlib.Path(sys.argv[1]).resolve()
ANSWER = [4.0] * 4  # of one token: S = k v^T, o = S^T q
RELEASE = ".".join(torch.__version__.split(".")[:2])


def run(*arguments, expect=0, **environment):
    environment = dict({k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, **environment)
    result = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, env=environment,
                            cwd=tempfile.gettempdir())
    assert result.returncode == expect, f"{arguments[:3]} ended with {result.returncode}:\n{result.stdout}{result.stderr}"
    return result.stdout + result.stderr


def pip_install(what, target):
    run("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index", "--target", target, what)


def run_in(target, program, expect=0):
    return run("-c", program, expect=expect, PYTHONPATH=str(target))


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        target, use = folder / "installed", "import comba_ops, torch; q = torch.ones(1, 1, 1, 4); g = torch.ones(1, 1, 1); " \
            "print(comba_ops.__file__, torch.ops.comba.scan(q, q, q, -g, g, g, scale=1.0)[0].flatten().tolist())"

        def installs_from_the_folder():
            pip_install(SOURCE, target)
            assert run_in(target, use) == f"{target / 'comba_ops' / '__init__.py'} {ANSWER}\n"

        def installs_from_a_wheel():
            run("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--wheel-dir", folder / "wheels", SOURCE)
            (wheel,) = (folder / "wheels").glob("comba_ops-*-py3-none-linux_*.whl")
            assert zipfile.ZipFile(wheel).testzip() is None
            pip_install(wheel, folder / "from_wheel")
            assert run_in(folder / "from_wheel", use).endswith(f"{ANSWER}\n")
            shown = run("-m", "pip", "show", "-f", "comba_ops", PYTHONPATH=str(folder / "from_wheel"))
            assert "Requires: torch" in shown and "comba_ops/libcomba_ops.so" in shown, shown

        def refuses_another_torch():
            major, minor = RELEASE.split(".")
            for version in ("1.13.1+cpu", f"{major}.{int(minor) + 1}.0", f"{major}.{minor}0.0a0+git1"):
                message = run_in(target, f"import torch; torch.__version__ = '{version}'; import comba_ops", expect=1)
                for words in ("ImportError", f"needs torch {RELEASE},", f"found torch {version} in",
                              f"pip install 'torch=={RELEASE}.*', or build Comba against this torch"):
                    assert words in message, f"{words} not in: {message}"

        def takes_another_patch_release():
            run_in(target, f"import torch; torch.__version__ = '{RELEASE}.7+cpu'; " + use)

        def takes_a_second_copy():
            two = f"import sys, comba_ops; del sys.modules['comba_ops']; sys.path[0:0] = ['{folder / 'from_wheel'}']; {use}"
            assert str(folder / "from_wheel") in run_in(target, two)

        def names_a_damaged_library():
            library = folder / "from_wheel" / "comba_ops" / "libcomba_ops.so"
            for body, words in ((b"<html>" * 100, "invalid ELF header"), (None, "No such file")):
                library.write_bytes(body) if body else library.unlink()
                message = run_in(folder / "from_wheel", "import comba_ops", expect=1)
                for word in ("ImportError", str(library), words, f"torch {torch.__version__}", "build Comba against this torch"):
                    assert word in message, f"{word} not in: {message}"

        for body in (installs_from_the_folder, installs_from_a_wheel, refuses_another_torch, takes_another_patch_release,
                     takes_a_second_copy, names_a_damaged_library):
            check(body.__name__.replace("_", " "), body)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
