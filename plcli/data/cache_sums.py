"""Sums of a cache file, which tell whether it is still as it was written.

They are kept in a small file beside it: its size, the crc32 of every block of a megabyte, the
sha256 of its content, and the crc32 of these. A file is checked when it is opened for the first
time in a process: all of it up to WHOLE blocks. Of a larger one, the first and the last block and
others that are chosen at random each time are checked.
"""

import hashlib
import json
import os
import random
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plcli.runs import atomic_files

BLOCK = 1 << 20  # bytes
WHOLE = 256  # blocks that are checked at most; crc32 reads 3 GB/s, so that this takes 0.1 s
_chosen = random.Random()  # of its own, so that no random numbers of a training are used up


def path_of(file: Path) -> Path:
    """Return the file with the sums of a cache file."""
    return file.with_name(f"{file.name}.sums")


def write(file: Path, *, content: Path) -> None:
    """Write the sums of a file that is still in a temporary one, `content`."""
    blocks, digest = [], hashlib.sha256()
    with open(content, "rb") as opened:
        while block := opened.read(BLOCK):
            blocks.append(zlib.crc32(block))
            digest.update(block)
    sums = {"size": content.stat().st_size, "crc32": blocks, "sha256": digest.hexdigest()}
    atomic_files.write_text(path_of(file), json.dumps(sums | {"own": _own_sum(sums)}))


def _own_sum(sums: Mapping[str, Any]) -> int:
    values = {key: sums[key] for key in ("size", "crc32", "sha256")}
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())


def damage(file: Path) -> str | None:
    """Return what is wrong with a cache file; None if nothing is found.

    Raises:
        FileNotFoundError: if the file does not exist.
    """
    size = os.stat(file).st_size
    sums = _read(file)
    if sums is None:
        return "its sums are missing"
    if size != sums["size"]:
        return f"it has {size} bytes instead of {sums['size']}"
    blocks = sums["crc32"]
    with open(file, "rb") as opened:
        for number in _to_check(len(blocks)):
            opened.seek(number * BLOCK)
            if zlib.crc32(opened.read(BLOCK)) != blocks[number]:
                return "its content has changed"
    return None


def sha256(file: Path) -> str | None:
    """Return the sha256 that a cache file had when it was written; None without sums."""
    sums = _read(file)
    return None if sums is None else str(sums["sha256"])


def _to_check(num_blocks: int) -> list[int]:
    if num_blocks <= WHOLE:
        return list(range(num_blocks))
    inner = _chosen.sample(range(1, num_blocks - 1), WHOLE - 2)
    return [0, *sorted(inner), num_blocks - 1]


def _read(file: Path) -> dict[str, Any] | None:
    """Return the sums of a file; None if there are none, or they are damaged themselves."""
    try:
        sums: dict[str, Any] = json.loads(path_of(file).read_text(encoding="utf-8"))
        return sums if sums["own"] == _own_sum(sums) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
