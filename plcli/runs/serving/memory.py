"""Lets a process that lives on give memory back to the system."""

import ctypes
import os
import platform
from typing import Any

# https://www.gnu.org/software/libc/manual/html_node/Malloc-Tunable-Parameters.html
PARAMETERS = {  # name of the environment variable: number of the parameter, value
    "MALLOC_MMAP_THRESHOLD_": (-3, 2**20),
    "MALLOC_TRIM_THRESHOLD_": (-1, 2**26),
    "MALLOC_ARENA_MAX": (-8, 2),
}


def keep_small() -> None:
    """Let glibc give blocks of 1 MB and more back when they are freed.

    By itself it raises that size to 32 MB while a program runs, and keeps heaps for every thread:
    batches of all lengths then leave holes between what lives, and a server grows for hours.
    Parameters that the environment sets are kept; other C libraries are left alone.
    """
    for name, (number, value) in PARAMETERS.items():
        if name not in os.environ and (library := _glibc()):
            library.mallopt(number, value)


def give_back() -> None:
    """Give free pages between smaller blocks back, which takes some milliseconds."""
    if library := _glibc():
        library.malloc_trim(0)


def _glibc() -> Any:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
