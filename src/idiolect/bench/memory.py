"""Resident memory while many people are trained in one run: it must not grow with their number."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from idiolect import machine
from idiolect.bench import bases, ours, report, workloads
from idiolect.config import TrainConfig
from idiolect.types import Rendered

_HISTORY = workloads.Workload("memory", people=1000, items=10, own=(32, 64), answer=12)


def bench_memory(
    shape: str = "small",
    out: Path | None = None,
    people: int = 1000,
    seed: int = 0,
    threads: int | None = None,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Train `people` of ten items each, made one at a time and not kept; measure this process whenever one is done."""
    import psutil

    threads = machine.set_up_threads(threads)
    size, config = bases.SHAPES[shape], TrainConfig.build(epochs=_HISTORY.epochs, seed=seed)
    process, resident = psutil.Process(), []
    with tempfile.TemporaryDirectory() as folder:
        base = ours.load(bases.random_llama(Path(folder) / "base", size, seed))
        layout = ours.layout_of(base, config)
        before, start = process.memory_info().rss, time.perf_counter()

        def keep(person: str, row: Any) -> None:
            ours.save_row(layout, row, Path(folder) / f"{person}.safetensors")
            resident.append(process.memory_info().rss)
            if say and len(resident) % max(1, people // 20) == 0:
                say(f"{len(resident):6d} people  {resident[-1] / 2**20:8.1f} MiB  {time.perf_counter() - start:7.1f} s")

        ours.train_stream(base, _people(people, size.vocab, seed), config, keep)
        seconds = time.perf_counter() - start
    figures = {
        "shape": shape,
        "people": people,
        "items": _HISTORY.items,
        "config": config.model_dump(mode="json"),
        "seconds": seconds,
        "people_per_minute": 60 * people / seconds,
        "load_average": machine.load_average(),
        "base_loaded_bytes": before,
        **_growth(resident),
    }
    return report.write(f"memory-{shape}", figures, out, seed, threads)


def _people(n: int, vocab: int, seed: int) -> Iterator[tuple[str, list[Rendered]]]:
    """One person after another, named as `workloads.make` would name them, in constant memory."""
    for number in range(n):
        name = f"person-{number:04d}"
        yield name, workloads.examples_of(_HISTORY, name, vocab, seed)


def _growth(resident: Sequence[int]) -> dict[str, Any]:
    """Peak, and the last quarter's median against the second quarter's: the first one still warms up."""
    quarter = max(1, len(resident) // 4)
    second, last = median(resident[quarter : 2 * quarter] or resident), median(resident[-quarter:])
    return {
        "peak_bytes": max(resident),
        "second_quarter_bytes": second,
        "last_quarter_bytes": last,
        "growth_bytes_per_person": (last - second) / max(1, 2 * quarter),
        "resident_bytes": list(resident[:: max(1, len(resident) // 100)]),
    }
