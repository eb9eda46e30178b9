"""Writes a wheel of the running plcli, which needs neither its sources nor a build tool.

The form: https://packaging.python.org/en/latest/specifications/binary-distribution-format/
"""

import base64
import hashlib
import zipfile
from pathlib import Path

import plcli
from plcli import __version__

NAME = f"plcli-{__version__}-py3-none-any.whl"
INFO = f"plcli-{__version__}.dist-info"
WHEN = (1980, 1, 1, 0, 0, 0)  # the earliest in a zip, so that equal files make equal wheels
FILES = {
    "METADATA": f"Metadata-Version: 2.1\nName: plcli\nVersion: {__version__}\n"
    "Requires-Python: >=3.10\n",  # what it requires is in the requirements.txt beside it
    "WHEEL": "Wheel-Version: 1.0\nGenerator: plcli\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "entry_points.txt": "[console_scripts]\nplcli = plcli.__main__:entry\n",
}


def write(folder: Path) -> Path:
    """Write the wheel into a folder, and return its path."""
    root = Path(str(plcli.__file__)).parent
    contents = {
        path.relative_to(root.parent).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }
    contents |= {f"{INFO}/{name}": text.encode() for name, text in FILES.items()}
    record = "".join(f"{name},{_sum(body)},{len(body)}\n" for name, body in contents.items())
    contents[f"{INFO}/RECORD"] = f"{record}{INFO}/RECORD,,\n".encode()
    target = folder / NAME
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
        for name, body in contents.items():
            entry = zipfile.ZipInfo(name, WHEN)
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            file.writestr(entry, body)
    return target


def _sum(body: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest())
    return f"sha256={digest.rstrip(b'=').decode()}"
