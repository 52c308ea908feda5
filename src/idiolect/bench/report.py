"""One JSON file per run: the figures, and everything somebody would need to doubt or repeat them."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from idiolect import machine
from idiolect.bench.interleave import Sample

UNITS = {"people_per_minute": "people/min", "tokens_per_s": "tokens/s", "steps_per_minute": "steps/min"}
"""What a report calls a method's rate, and how it is told."""


def write(name: str, figures: Mapping[str, Any], out: Path | None, seed: int, threads: int) -> dict[str, Any]:
    """Put the figures together with hardware, versions, seed and command; write OUT/NAME.json unless `out` is None."""
    result = {
        "bench": name,
        "command": command(),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"),
        "seed": seed,
        "threads": threads,
        "hardware": machine.hardware(),
        "versions": machine.versions(),
        **figures,
    }
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{name}.json").write_text(json.dumps(result, indent=1, sort_keys=False, ensure_ascii=False) + "\n")
    return result


def command() -> str:
    """What was typed, without the folders of this machine."""
    program = Path(sys.argv[0])
    name = f"python -m {program.parent.parent.name}.{program.parent.name}" if program.name == "__main__.py" else program.name
    return shlex.join([*name.split(" "), *sys.argv[1:]])


def teller(unit: str, per_run: float, say: Callable[[str], None] | None) -> Callable[[Sample], None]:
    """A callback that says, after each run of a method, how fast it was; `per_run` units are done in one run."""

    def tell(sample: Sample) -> None:
        if say:
            label = "warm-up" if sample.round < 0 else f"round {sample.round + 1}"
            rate = f"{per_run / sample.wall_s:10.1f} {unit}" if sample.method != "gemm" else ""
            say(f"{label:<8} {sample.method:<12} {sample.wall_s:8.2f} s {rate} (others: {sample.others:.2f} cores)")

    return tell
