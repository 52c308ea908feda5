"""How much memory is free, and whether an error means that it ran out."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT_BYTES = 2**30


_WORDS = ("can't allocate memory", "not enough memory")
"""What torch's CPU allocator says, on Linux and on Windows."""


def free_bytes(device: torch.device) -> int:
    """Bytes that can still be taken on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return available


def is_out_of_memory(error: BaseException) -> bool:
    """torch has no exception of its own for a CPU that ran out of memory, only a message."""
    said = str(error).lower()
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(words in said for words in _WORDS)


@cache
def keep_freed_memory() -> bool:
    """Have glibc keep up to 1 GiB of what is freed, instead of handing it back and fetching it again page by page.

    A step's large activations are the same size every time; by default each is a fresh mapping, and a matrix product into
    fresh pages costs up to half as much again. Whole process, Linux with glibc only; elsewhere nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(what, _KEPT_BYTES) == 1 for what in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD))
