"""What a figure was measured on: processor, memory, versions. Figures without it cannot be compared."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16", "asimd", "sve")
_PACKAGES = ("idiolect", "torch", "transformers", "peft", "accelerate", "safetensors", "numpy", "scipy", "scikit-learn")


def hardware() -> dict[str, Any]:
    """Processor, usable cores, instruction sets that decide GEMM speed, memory in bytes, GPU name where there is one."""
    import torch

    cpu = _cpuinfo()
    flags = set(cpu.get("flags", cpu.get("Features", "")).split())
    return {
        "cpu": cpu.get("model name", platform.processor() or platform.machine()),
        "cores": cores(),
        "flags": [flag for flag in _FLAGS if flag in flags],
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Python, idiolect and every library that the figures depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def cores() -> int:
    """Cores that this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_up_threads(threads: int | None = None) -> int:
    """Set torch's threads for every method alike and quieten the peers; returns the number.

    Waiting threads sleep instead of spinning (`OMP_WAIT_POLICY`): with one busy neighbour a spinning two-thread GEMM runs
    three times slower. The variable counts only if it is set before torch is loaded, so call this first.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import torch

    threads = threads or cores()
    torch.set_num_threads(threads)
    return threads


def load_average() -> list[float]:
    """Runnable processes over 1, 5 and 15 minutes; empty where the system does not say."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else []


def _cpuinfo() -> dict[str, str]:
    """The first processor's fields of /proc/cpuinfo; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    pairs = (line.split(":", 1) for line in path.read_text().split("\n\n")[0].splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}
