"""What pip asks to make a wheel of this folder (PEP 517, PEP 427). The library is there already, built by CMake: the wheel is an
archive of it, for which pip then needs no compiler, no build tools and no network."""
import base64
import hashlib
import sysconfig
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    metadata = (HERE / "METADATA").read_bytes()
    fields = dict(line.split(": ", 1) for line in metadata.decode().splitlines())
    name = f"{fields['Name'].replace('-', '_')}-{fields['Version']}"
    tag = "py3-none-" + sysconfig.get_platform().replace("-", "_").replace(".", "_")
    files = {f"comba_ops/{file}": (HERE / "comba_ops" / file).read_bytes() for file in ("__init__.py", "libcomba_ops.so")}
    files[f"{name}.dist-info/METADATA"] = metadata
    files[f"{name}.dist-info/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: comba\nRoot-Is-Purelib: false\nTag: {tag}\n".encode()
    record = f"{name}.dist-info/RECORD"
    lines = [f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(body).digest()).decode().rstrip('=')},{len(body)}"
             for path, body in files.items()]
    files[record] = "\n".join([*lines, f"{record},,", ""]).encode()
    with zipfile.ZipFile(Path(wheel_directory) / f"{name}-{tag}.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, body in files.items():
            wheel.writestr(path, body)
    return f"{name}-{tag}.whl"
