"""Memory of a server is given back to the system; in processes of their own."""

import platform
import subprocess
import sys

import pytest

MB = 2**20
GROWN = f"""
import ctypes, os
from pathlib import Path
from plcli.runs.serving import memory

def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

%s
before = held()
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
library.free.argtypes = [ctypes.c_void_p]
for size in range(8, 32):  # a block that is freed raises the size from which glibc maps blocks
    library.free(library.malloc(size * {MB}))
size = %d
blocks = [library.malloc(size) for _ in range(%d)]
for block in blocks:
    ctypes.memset(block, 1, size)
for block in blocks[:-1]:  # below one that lives
    library.free(block)
%s
print(held() - before)
"""


def grown(start: str, end: str, *, size: int, count: int) -> int:
    """Return the bytes that a process keeps of 200 MB that it has freed."""
    script = GROWN % (start, size, count, end)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")


def test_large_blocks_are_given_back_at_once() -> None:
    assert grown("", "", size=10 * MB, count=20) > 150 * MB
    assert grown("memory.keep_small()", "", size=10 * MB, count=20) < 20 * MB


def test_small_blocks_are_given_back_on_request() -> None:
    assert grown("", "", size=MB // 16, count=3200) > 150 * MB
    assert grown("", "memory.give_back()", size=MB // 16, count=3200) < 20 * MB


def test_parameters_of_the_environment_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", str(64 * MB))
    assert grown("memory.keep_small()", "", size=10 * MB, count=20) > 150 * MB
